import json

import pyarrow.parquet as pq
import pytest

from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError, UsageError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.evaluation.items import load_items, parse_sources
from trainer.evaluation.results import read_result
from trainer.evaluation.run import evaluate_outputs
from trainer.held_out import write_held_out
from trainer.phase import load_phase
from trainer.training_data import write_prompts


def test_items_come_from_the_newest_dataset_version_with_their_pictures(publish, row, tmp_path):
    rows = [row("mini-mathvista", index) for index in range(9)]
    rows[0]["extra"] = json.dumps({"answer_type": "float", "precision": 1})
    store = publish(tmp_path / "store", "mathvista", rows)
    found = load_items("mathvista", None, store, images=True)
    assert found.record["dataset"] == "mathvista@v1"
    assert (found.record["profile"], len(found.items)) == ("local", 9)
    first = next(item for item in found.items if item.key == rows[0]["source_id"])
    assert first.images == (rows[0]["images"][0]["bytes"],)
    assert (first.extra["precision"], first.extra["row_id"]) == (1, rows[0]["id"])
    assert load_items("mathvista", None, store, images=False).items[0].images == ()
    limited = load_items("mathvista", "mathvista@v1", store, images=True, limit=4).items
    assert [item.key for item in limited] == [item.key for item in found.items[:4]]


def test_outputs_name_items_by_source_key_or_row_id(publish, row, tmp_path):
    rows = [row("mini-math500", index) for index in range(6)]
    for number, one in enumerate(rows):
        one["source_id"] = f"key-{number}"
    store = publish(tmp_path / "store", "math500", rows)
    outputs = tmp_path / "outputs.jsonl"
    names = [one["source_id"] if n % 2 else one["id"] for n, one in enumerate(rows)]
    outputs.write_text("\n".join(
        json.dumps({"benchmark": "math500", "item": name, "output": f"\\boxed{{{one['answer']}}}"})
        for name, one in zip(names, rows, strict=True)))  # fmt: skip
    result = evaluate_outputs(outputs, store=store)["benchmarks"]["math500"]
    assert (result["n"], result["accuracy"], result["missing_outputs"]) == (6, 1.0, 0)
    assert result["source"]["label"]


def test_a_store_without_the_benchmark_says_how_to_get_it(tmp_path):
    with pytest.raises(InfiMmrError, match="data-engine build mathverse"):
        load_items("mathverse", None, str(tmp_path / "store"), images=False)


def test_sources_are_name_and_place():
    assert parse_sources(["math500=a/b=c.parquet", "MathVista = x"]) == {"math500": "a/b=c.parquet", "mathvista": "x"}
    with pytest.raises(UsageError, match="NAME=PATH"):
        parse_sources(["math500"])


def test_half_a_character_in_an_item_or_an_output_ends_no_evaluation(tmp_path):
    half = "\ud835"
    row = {"unique_id": "a", "problem": f"What is {half} + 1?", "answer": "2", "subject": f"alg{half}", "level": 1}
    (tmp_path / "math500.json").write_text(json.dumps([row, {**row, "unique_id": f"b{half}"}]))
    outputs = tmp_path / "outputs.jsonl"
    lines = [{"benchmark": "math500", "item": name, "output": f"I{half}\0: \\boxed{{2}}"} for name in ("a", f"b{half}")]
    outputs.write_text("\n".join(map(json.dumps, lines)))
    sources = {"math500": str(tmp_path / "math500.json")}
    document = evaluate_outputs(outputs, sources=sources, output=tmp_path / "results")
    assert (document["benchmarks"]["math500"]["n"], document["benchmarks"]["math500"]["accuracy"]) == (2, 1.0)
    kept = pq.read_table(tmp_path / "results/outputs.parquet").to_pylist()
    assert [one["output"] for one in kept] == ["I\ufffd: \\boxed{2}"] * 2
    assert read_result(tmp_path / "results")["benchmarks"]["math500"]["by_subject"] == {
        "alg\ufffd": document["benchmarks"]["math500"]["by_subject"]["alg\ufffd"]
    }


def test_half_a_character_in_the_fields_of_a_version_ends_no_evaluation_and_no_training(publish, row, tmp_path):
    rows = [row("mini-math500", index) for index in range(8)]
    for one in rows:
        one["extra"] = '{"unit": "m\\ud835", "note": "\\udc00", "level": NaN}'
    store = publish(tmp_path / "store", "math500", rows)
    for item in load_items("math500", None, store, images=True).items:
        assert (item.extra["unit"], item.extra["note"], item.extra["level"]) == ("m\ufffd", "\ufffd", None)
    small = ["train.max_steps=2", "rollout.batch_size=4", "train.batch_size=32", "data.allow_test_set=true"]
    phase = load_phase("fra", "local", [*small, 'data.dataset="math500"', 'evaluation.benchmarks=["math500"]'])
    version = open_dataset("math500", store)
    assert write_prompts(version, phase, BUNDLED_FOLDER, tmp_path / "run", tmp_path / "cache").rows == 8
    lines = (tmp_path / "run" / "prompts.jsonl").read_text().splitlines()
    assert {json.loads(json.loads(line)["label"])["unit"] for line in lines} == {"m\ufffd"}
    assert write_held_out(phase, BUNDLED_FOLDER, tmp_path / "run", store, tmp_path / "cache")["items"] == {"math500": 8}


def test_an_item_whose_picture_has_no_bytes_is_missing_its_picture(publish, row, tmp_path):
    rows = [row("mini-mathvista", index) for index in range(2)]
    rows[0]["images"][0]["bytes"] = None
    store = publish(tmp_path / "store", "mathvista", rows)
    items = {item.key: item for item in load_items("mathvista", None, store, images=True).items}
    assert (items[rows[0]["source_id"]].images, items[rows[0]["source_id"]].missing_images) == ((), ("without bytes",))
    assert items[rows[1]["source_id"]].missing_images == ()
