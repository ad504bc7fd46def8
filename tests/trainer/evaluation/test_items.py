import json

import pytest

from shared.errors import InfiMmrError, UsageError
from trainer.evaluation.items import load_items, parse_sources
from trainer.evaluation.run import evaluate_outputs


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
