"""`evaluate_checkpoint` against an OpenAI-compatible server on loopback, and against the bundled checkpoint."""

import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from shared.benchmark import Item, plain_question
from shared.errors import InfiMmrError
from shared.laptop import draw
from shared.vlm.room import engine_starts
from trainer.after_training.ask import ask as ask_checkpoint
from trainer.cli import main
from trainer.evaluation import Settings, evaluate_checkpoint


def added(body):
    """The right answer to `What is A + B?`, one too many where it is drawn with an odd seed."""
    text = json.dumps(body["messages"])
    numbers = [int(n) for n in re.findall(r"What is (\d+) \+ (\d+)", text)[-1]] if "What is" in text else [0]
    drawn = body.get("temperature", 0) > 0 and (body.get("seed") or 0) % 2 == 1
    return f"<think>add</think>\n\\boxed{{{sum(numbers) + drawn}}}"


@pytest.fixture
def server(new_standin):
    return new_standin(model="served", say=added, tokens=7)


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"id": str(n), "problem": f"What is {n} + 2?", "answer": str(n + 2)} for n in range(12)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def settings(server, **more):
    return Settings.model_validate({"endpoint": server.url, "batch_size": 4, "max_model_len": 512, **more})


def test_a_served_checkpoint_is_asked_once_and_an_unchanged_evaluation_costs_nothing(server, sums, tmp_path):
    store, out = str(tmp_path / "store"), tmp_path / "result"
    ask = {"sources": {"math500": str(sums)}, "settings": settings(server), "output": out}
    first = evaluate_checkpoint("served", ["math500"], store, **ask)
    assert first["benchmarks"]["math500"]["accuracy"] == 1.0
    assert first["benchmarks"]["math500"]["mean_tokens"] == 7
    assert len(server.requests) == 12
    again = evaluate_checkpoint("served", ["math500"], store, **ask)
    assert len(server.requests) == 12
    assert (again["asking"]["asked"], again["asking"]["from_store"]) == (0, 12)
    assert again["benchmarks"] == first["benchmarks"]
    assert json.loads((out / "evaluation.json").read_text())["benchmarks"]["math500"]["n"] == 12
    assert pq.read_table(out / "outputs.parquet").num_rows == 12


def test_a_task_file_is_asked_in_its_own_words_and_scored_by_its_own_scorer(server, tmp_path):
    rows = [
        {"nr": f"n{n}", "ask": f"What is {n} + 2?", "total": n + 2.04, "kind": "odd" if n % 2 else "even"}
        for n in range(6)
    ]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "near.toml").write_text(
        'question = "{question} Think of {kind} numbers."\nscorer = "relaxed"\nrelative_tolerance = 0.01\n'
        'groups = { by_kind_of_sum = "kind" }\n[source]\nlocation = "sums.jsonl"\nkeep = ["kind"]\n'
        'columns = { id = "nr", question = "ask", answer = "total" }\n'
    )
    store = str(tmp_path / "store")
    found = evaluate_checkpoint("served", [str(tmp_path / "near.toml")], store, settings=settings(server))
    result = found["benchmarks"]["near"]
    assert "What is 3 + 2? Think of odd numbers." in json.dumps(server.requests)
    assert (result["n"], result["correct"]) == (6, 4), "0.04 is within 1% of 4.04 and more, not of 2.04 and 3.04"
    assert {name: group["n"] for name, group in result["by_kind_of_sum"].items()} == {"even": 3, "odd": 3}


def test_what_was_asked_and_known_counts_over_all_benchmarks(server, sums, tmp_path):
    more = tmp_path / "more.jsonl"
    rows = [{"question": f"What is {n} + 2?", "answer": f"So.\n#### {n + 2}"} for n in range(100, 107)]
    more.write_text("\n".join(map(json.dumps, rows)))
    ask = {"sources": {"math500": str(sums), "gsm8k": str(more)}, "settings": settings(server)}
    store = str(tmp_path / "store")
    evaluate_checkpoint("served", ["gsm8k"], store, **ask)
    both = evaluate_checkpoint("served", ["math500", "gsm8k"], store, **ask)
    assert (both["asking"]["asked"], both["asking"]["from_store"]) == (12, 7)


def test_an_interrupted_evaluation_continues_where_it_was(server, sums, tmp_path):
    store = str(tmp_path / "store")
    ask = {"sources": {"math500": str(sums)}, "settings": settings(server)}
    server.break_after = 8
    with pytest.raises(InfiMmrError):
        evaluate_checkpoint("served", ["math500"], store, **ask)
    server.break_after = None
    document = evaluate_checkpoint("served", ["math500"], store, **ask)
    assert document["benchmarks"]["math500"]["n"] == 12
    assert (document["asking"]["asked"], document["asking"]["from_store"]) == (4, 8)


def test_other_sampling_and_other_prompts_are_asked_anew_and_samples_give_pass_at_k(server, sums, tmp_path):
    store = str(tmp_path / "store")
    ask = {"sources": {"math500": str(sums)}}
    evaluate_checkpoint("served", ["math500"], store, settings=settings(server), **ask)
    drawn = evaluate_checkpoint("served", ["math500"], store, settings=settings(server, samples=2), **ask)
    assert len(server.requests) == 12 + 24  # the greedy answers were known
    samples = drawn["benchmarks"]["math500"]["samples"]
    assert (samples["k"], samples["avg_at_k"], samples["pass_at"]["2"]) == (2, 0.5, 1.0)
    assert drawn["benchmarks"]["math500"]["accuracy"] == 1.0  # greedy stays the headline
    prompt = tmp_path / "prompt.md"
    prompt.write_text("Answer in a box.")
    evaluate_checkpoint("served", ["math500"], store, settings=settings(server, system_prompt=str(prompt)), **ask)
    assert len(server.requests) == 12 + 24 + 12
    assert server.requests[-1]["messages"][0]["content"] == "Answer in a box."


def test_a_missing_image_leaves_its_item_unscored_and_the_others_scored(server, tmp_path):
    (tmp_path / "images").mkdir()
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(data, "png")
    (tmp_path / "images/1.png").write_bytes(data.getvalue())
    path = tmp_path / "vision.jsonl"
    rows = [{"id": str(n), "question": f"<image1>What is {n} + 2?", "answer": str(n + 2), "options": [],
             "image": f"images/{n}.png"} for n in (1, 2)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    document = evaluate_checkpoint("served", ["mathvision"], str(tmp_path / "store"), sources={"mathvision": str(path)},
                                   settings=settings(server))  # fmt: skip
    result = document["benchmarks"]["mathvision"]
    assert (result["n"], result["accuracy"], result["unscored_reasons"]) == (1, 1.0, {"image_missing": 1})
    assert len(server.requests) == 1


TEXT = '{"model_type": "qwen2_5_vl"}'
VISION = '{"model_type": "qwen2_5_vl", "vision_config": {}}'


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no config.json"),
        ({"config.json": "{}"}, "no safetensors"),
        ({"config.json": "{}", "model.safetensors": ""}, "no model_type"),
        ({"config.json": TEXT, "model.safetensors": ""}, "no tokenizer"),
        ({"config.json": VISION, "model.safetensors": "", "tokenizer.json": "{}"}, "preprocessor_config"),
    ],
)
def test_a_checkpoint_without_its_files_is_told_before_anything_starts(files, says, sums, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(InfiMmrError, match=says):
        evaluate_checkpoint(folder, ["math500"], str(tmp_path / "store"), sources={"math500": str(sums)})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_bundled_checkpoint_is_evaluated_through_vllm_and_found_again(tmp_path, capfd):
    rows = []
    (tmp_path / "images").mkdir()
    for index in range(8):
        problem = draw("mini-mathvista", index)
        (tmp_path / f"images/{index}.png").write_bytes(problem.image_png)
        picture, choices = f"images/{index}.png", list(problem.choices) or None
        rows.append(
            {
                "pid": str(index),
                "question": problem.stem,
                "answer": problem.answer,
                "image": picture,
                "choices": choices,
            }
        )
    path = tmp_path / "mathvista.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    ask = {"sources": {"mathvista": str(path)},
           "settings": Settings.model_validate({"max_tokens": 96, "max_model_len": 512})}  # fmt: skip
    store = str(tmp_path / "store")
    first = evaluate_checkpoint("tiny-vl", ["mathvista"], store, output=Path(tmp_path / "out"), **ask)
    result = first["benchmarks"]["mathvista"]
    assert (result["n"], result["unscored"]) == (8, 0)
    assert result["mean_tokens"] > 0
    again = evaluate_checkpoint("tiny-vl", ["mathvista"], store, **ask)
    assert again["asking"]["asked"] == 0
    assert again["benchmarks"]["mathvista"]["accuracy"] == result["accuracy"]
    asked_by_hand_it_says_what_the_evaluation_heard(tmp_path, rows[0], capfd)
    ask["settings"] = ask["settings"].model_copy(update={"max_tokens": 4})
    evaluate_checkpoint("tiny-vl", ["mathvista"], store, output=tmp_path / "cut", **ask)
    two_evaluations_are_compared_and_the_better_one_is_ready_to_be_shared(tmp_path, path, result, capfd)


def asked_by_hand_it_says_what_the_evaluation_heard(tmp_path, row, capfd):
    """`trainer ask` on the engine that runs already: greedily the stored output, piece by piece, and drawn samples."""
    started = engine_starts()
    question = plain_question(Item("mathvista", "0", row["question"], "", "text", tuple(row["choices"] or ())))
    words = ["ask", "tiny-vl", question, "--image", str(tmp_path / row["image"])]
    words += ["--max-tokens", "96", "--max-model-len", "512"]
    stored = pq.read_table(tmp_path / "out/outputs.parquet").to_pylist()[0]
    reply = json.loads(trainer(words, "--json", capfd=capfd).out)
    assert (reply["text"], reply["answer"], reply["tokens"]) == (stored["output"], stored["answer"], stored["tokens"])
    assert reply["thinking"]
    drawn = json.loads(trainer(words, "--json", "--samples", "3", capfd=capfd).out)
    assert len(drawn) == 3
    assert {tuple(one) for one in drawn} == {("thinking", "answer", "text", "tokens")}
    shown = trainer(words, capfd=capfd)
    assert shown.out.strip() == reply["text"].partition("</think>")[2].strip()
    assert reply["thinking"] in shown.err
    heard = []
    settings = Settings.model_validate({"max_tokens": 96, "max_model_len": 512})
    ask_checkpoint("tiny-vl", question, [tmp_path / row["image"]], settings=settings, samples=2,
                   heard=lambda number, piece: heard.append(number))  # fmt: skip
    assert heard.count(0) > 5
    assert heard.count(1) > 5
    assert engine_starts() == started


def two_evaluations_are_compared_and_the_better_one_is_ready_to_be_shared(tmp_path, items, result, capfd):
    """`trainer compare` with pictures, and `trainer push --dry-run` with the results of these very weights."""
    page = tmp_path / "compared.html"
    words = ["compare", str(tmp_path / "cut"), str(tmp_path / "out"), "--source", f"mathvista={items}"]
    found = json.loads(trainer(words, "--html", str(page), "--json", capfd=capfd).out)
    assert (found["items"], found["only_second"], found["only_first"]) == (8, result["correct"], 0)
    assert page.read_text().count('<img src="data:image/') == result["correct"]
    pushed = ["push", "tiny-vl", "team/tiny", "--dry-run", "--results", str(tmp_path / "out")]
    shown = json.loads(trainer(pushed, "--json", capfd=capfd).out)
    assert {file["name"] for file in shown["files"]} >= {"model.safetensors", "README.md", "evaluation.json"}
    (score,) = ModelCard(shown["card"]).data.eval_results
    assert (score.dataset_name, score.metric_value) == ("MathVista", 100 * result["accuracy"])


def trainer(words, *more, capfd):
    """A command in this process, so that it finds the engine."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*words, *more])
    assert not ended.value.code
    return capfd.readouterr()


def test_a_checkpoint_whose_configuration_is_no_object_is_refused_by_its_name(sums, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("[]")
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"")
    with pytest.raises(InfiMmrError, match=r"odd/config\.json is not a JSON object"):
        evaluate_checkpoint(str(tmp_path / "odd"), ["math500"], str(tmp_path), sources={"math500": str(sums)})
