"""Evaluation during training: the words of `trainer evaluate`, judged by accuracy, told by benchmark."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import pytest

from shared.errors import InfiMmrError
from shared.prompts import prompt
from shared.vlm.chat_template import PromptRenderer
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.vlm.conversation import build_conversation
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import load_items
from trainer.evaluation.results import summarise
from trainer.evaluation.scoring import score
from trainer.evaluation.tasks import task
from trainer.held_out import FILE, read_items, write_held_out
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.openrlhf_bridge.reward_entry import judge
from trainer.phase import load_phase
from trainer.rewards import RewardWeights
from trainer.rollouts import EVALUATIONS, RunWriter, read_lines

BENCHMARKS = ["evaluation.every=2", 'evaluation.benchmarks=["math500","mathverse"]', "evaluation.limit=10"]


def written(mini_store, tmp_path, overrides=()):
    phase = load_phase("mre", "local", [*BENCHMARKS, *overrides])
    record = write_held_out(phase, BUNDLED_FOLDER, tmp_path, mini_store, tmp_path / "cache")
    return record, [json.loads(text) for text in (tmp_path / FILE).read_text().splitlines()]


def test_every_item_is_asked_in_the_words_of_trainer_evaluate(mini_store, tmp_path):
    record, lines = written(mini_store, tmp_path)
    assert (record["items"], record["max_images"]) == ({"math500": 10, "mathverse": 10}, 1)
    assert record["sources"]["mathverse"]["fingerprint"]
    renderer = PromptRenderer(BUNDLED_FOLDER)
    asked = []
    for name in ("math500", "mathverse"):
        for item in load_items(name, None, mini_store, images=True, limit=10).items:
            chat = build_conversation(prompt("reason_system"), task(name).question(item), item.images)
            for message in chat:
                if isinstance(message["content"], list):
                    message["content"] = [
                        {"type": "image"} if part["type"] == "image" else part for part in message["content"]
                    ]
            asked.append((name, renderer.text(chat)))
    assert [(line["datasource"], line["prompt"]) for line in lines] == asked
    assert all(json.loads(line["label"])["held_out"] == line["datasource"] for line in lines)
    assert all(len(line["images"]) == line["prompt"].count("<|image_pad|>") for line in lines)


def test_items_too_long_for_the_context_are_counted(mini_store, tmp_path):
    record, lines = written(mini_store, tmp_path, ["rollout.max_length=140"])
    assert record["left_out"]["too_long"] == 20 - len(lines) > 0


def test_a_missing_benchmark_is_named_with_what_builds_it(mini_store, tmp_path):
    with pytest.raises(InfiMmrError, match="data-engine build olympiadbench"):
        written(mini_store, tmp_path, ['evaluation.benchmarks=["olympiadbench"]'])


def test_openrlhf_evaluates_greedily_every_so_many_steps_and_not_at_all_by_default():
    def parsed(overrides, held_out):
        phase = load_phase("mre", "local", overrides)
        paths = RunPaths("p", "c", "s", "o", "t", held_out)
        return parse_with_openrlhf(openrlhf_arguments(phase, paths, PromptFacts(16, 1), device="cpu", resume=False))

    with_items = parsed(BENCHMARKS, "RUN/held_out.jsonl")
    assert with_items.eval.dataset == "RUN/held_out.jsonl"
    assert (with_items.eval.steps, with_items.eval.temperature, with_items.eval.n_samples_per_prompt) == (2, 0.0, 1)
    assert parsed([], "").eval.dataset is None


def test_a_held_out_answer_earns_its_accuracy_alone():
    label = json.dumps({"id": "math500/1", "held_out": "math500", "gold": "7", "kind": "integer"})
    right = judge("<think>so</think>\\boxed{7}", label, RewardWeights())
    wrong = judge("<think>so</think>\\boxed{8}", label, RewardWeights())
    assert (right.rewards, wrong.rewards) == (1.0, 0.0)
    assert right.record["held_out"] == "math500"


def test_the_item_of_a_line_is_all_that_its_scorer_needs(mini_store, tmp_path):
    written(mini_store, tmp_path)
    items = read_items(tmp_path)
    loaded = [
        item
        for name in ("math500", "mathverse")
        for item in load_items(name, None, mini_store, images=True, limit=10).items
    ]
    assert [replace(item, images=()) for item in loaded] == list(items.values())
    assert [f"{item.benchmark}/{item.key}" for item in loaded] == list(items)


def recorded(writer, line):
    with (writer.parts / "trainer-1.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    ((_, told),) = writer.finished()
    return told


def test_an_evaluation_is_one_line_of_the_tasks_accuracies_and_no_rollout(mini_store, tmp_path):
    written(mini_store, tmp_path)
    (tmp_path / "prompts.jsonl").write_text("")
    writer = RunWriter(tmp_path)
    items = read_items(tmp_path)
    rows, scored = [], defaultdict(list)
    for number, (identity, item) in enumerate(items.items()):
        # `trainer evaluate` asks for no format: a box alone is right, whatever the reward says of it.
        output = f"\\boxed{{{item.answer}}}" if number % 3 else "I do not know"
        row = {"step": 3, "held_out": item.benchmark, "prompt_id": identity, "output": output, "exact": 0.0}
        rows.append({**row, "tokens": 5, "truncated": False})
        scored[item.benchmark].append((item, 0, StoredAnswer(output, 5, 0, truncated=False)))
    (writer.parts / "actor-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded(writer, {"evaluated": 2})
    (line,) = read_lines(tmp_path / EVALUATIONS)
    assert line["step"] == 2
    for name, outputs in scored.items():
        wanted = summarise(task(name), score(task(name), outputs))
        assert line["accuracy"][name] == {key: wanted[key] for key in ("n", "accuracy", "stderr")}
    assert 0.5 < line["accuracy"]["math500"]["accuracy"] < 0.8
    assert recorded(writer, {"step": 3, "values": {}})["rollouts"] == 0
    RunWriter(tmp_path, resumed_from=1)  # the state of step 1 knows nothing of an evaluation after step 2
    assert read_lines(tmp_path / EVALUATIONS) == []


def test_a_task_file_is_the_held_out_evaluation_of_a_phase_with_its_own_words_and_scorer(tmp_path):
    rows = [{"id": str(n), "query": f"{n} + {n}?", "label": str(2 * n), "unit": "cm"} for n in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.py").write_text("def near(item, answer):\n    return abs(int(answer) - int(item.answer)) <= 1\n")
    (tmp_path / "sums.toml").write_text(
        'question = "In {unit}: {question}"\nscorer = "own.py:near"\n[source]\nlocation = "sums.jsonl"\n'
        'keep = ["unit"]\ncolumns = { question = "query", answer = "label" }\n'
    )
    (tmp_path / "phase.toml").write_text('base = "mre"\n[evaluation]\nbenchmarks = ["./sums.toml"]\nevery = 1\n')
    run = tmp_path / "run"
    run.mkdir()
    phase = load_phase(str(tmp_path / "phase.toml"), "local")
    record = write_held_out(phase, BUNDLED_FOLDER, run, str(tmp_path / "store"), tmp_path / "cache")
    assert (record["items"], record["sources"]["sums"]["from"]) == ({"sums": 4}, "task file")
    lines = [json.loads(text) for text in (run / FILE).read_text().splitlines()]
    assert all(f"In cm: {row['query']}" in line["prompt"] for row, line in zip(rows, lines, strict=True))
    (run / "prompts.jsonl").write_text("")
    writer = RunWriter(run)
    outputs = [
        {"step": 2, "held_out": "sums", "prompt_id": f"sums/{n}", "output": f"\\boxed{{{2 * n + n}}}"} for n in range(4)
    ]
    outputs += [{**row, "step": 3, "output": "\\boxed{99}"} for row in outputs]  # of the next evaluation already
    told = [json.dumps({**row, "exact": 0.0, "tokens": 3, "truncated": False}) for row in outputs]
    (writer.parts / "actor-1.jsonl").write_text("".join(line + "\n" for line in told))
    told = [recorded(writer, {"evaluated": step})["accuracy"]["sums"] for step in (1, 2)]
    assert [(found["n"], found["accuracy"]) for found in told] == [(4, 0.5), (4, 0.0)]
