"""Run folders in the layout of `trainer phase` and `trainer curriculum`, with drawn problems and true pictures."""

import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.benchmark import Item
from shared.benchmarks import PAPER
from shared.laptop import draw
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.results import output_rows, summarise, write_results
from trainer.evaluation.scoring import score
from trainer.evaluation.tasks import task

NASTY = '<script>document.title="owned"</script><img src=x onerror=alert(1)> {{ 7*7 }}'


def evaluation(folder: Path, checkpoint: str, skill: float, items: int = 60) -> None:
    """An evaluation of the five benchmarks on drawn problems; `skill` is the chance of a right answer."""
    dice = random.Random(checkpoint)
    document = {"checkpoint": checkpoint, "benchmarks": {}}
    rows = []
    for name in PAPER:
        problems = [draw(f"mini-{name}", index) for index in range(items)]
        entries = []
        for number, problem in enumerate(problems):
            version = ("Text Dominant", "Vision Only")[number % 2]
            extra = {"level": problem.grade, "answer_raw": problem.answer, "problem_version": version,
                     "problem_index": str(number // 2)}  # fmt: skip
            item = Item(name, problem.key, problem.question, problem.answer, "integer", problem.choices,
                        category=problem.kind, extra=extra)  # fmt: skip
            right = dice.random() < skill
            text = problem.response if right else "<think>Hm.</think>\n\\boxed{-12345}"
            entries.append((item, 0, StoredAnswer(text, 12, 60, truncated=dice.random() < 0.05)))
        scored = score(task(name), entries)
        source = {"from": "dataset version", "label": f"{name}@v1 (local)", "profile": "local"}
        document["benchmarks"][name] = {**summarise(task(name), scored), "source": source}
        rows += output_rows(scored)
    write_results(folder, document, rows)


def training(folder: Path, phase: str, title: str, cache: Path, *, start: float, steps: int = 60) -> None:
    """Metrics, rollouts and prompts of a phase whose reward rises from `start`."""
    dice = random.Random(phase)
    (folder / "rollouts").mkdir(parents=True)
    record = {
        "phase": {"name": phase, "title": title, "profile_name": "local", "train": {"learning_rate": 4e-5}},
        "dataset": {"name": "virl39k", "label": "virl39k@v2 (local)"},
        "parent": {"location": "tiny-vl", "sha256": "0" * 64},
        "code_commit": "0123456789abcdef",
    }
    (folder / "run.json").write_text(json.dumps(record))
    prompts, lines = [], []
    problems = [draw("mini-virl39k", index) for index in range(8)]
    for problem in problems:
        digest = hashlib.sha256(problem.image_png).hexdigest()
        file = cache / f"{digest}.png"
        file.write_bytes(problem.image_png)
        prompts.append(json.dumps({"prompt": "p", "label": "{}", "images": [str(file)], "image_hashes": [digest]}))
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    for step in range(1, steps + 1):
        level = start + (0.9 - start) * (1 - 2.718 ** (-3 * step / steps))
        lines.append(json.dumps({
            "step": step, "reward": level + dice.gauss(0, 0.03), "accuracy": level - 0.05 + dice.gauss(0, 0.04),
            "response_length": 40 + 30 * level + dice.gauss(0, 2),
        }))  # fmt: skip
        if step % 5 == 0:
            rows = []
            for number, problem in enumerate(problems):
                right = dice.random() < level
                rows.append({
                    "step": step, "prompt_id": problem.key, "question": f"<image>{problem.question}",
                    "image_hashes": [hashlib.sha256(problem.image_png).hexdigest()],
                    "output": problem.response if right else f"<think>{NASTY}</think>\n\\boxed{{0}}",
                    "tokens": 20 + number,
                    "reward": 1.0 if right else 0.28, "format": 1.0, "accuracy": float(right), "type_match": 1.0,
                    "exact": float(right), "kind": "integer", "verdict": "correct" if right else "wrong",
                    "gold": problem.answer, "truncated": False,
                })  # fmt: skip
            pq.write_table(pa.Table.from_pylist(rows), folder / f"rollouts/step-{step:06d}.parquet")
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def curriculum(tmp_path_factory) -> Path:
    """A finished curriculum: base, FRA, CMRA, MRE."""
    root = tmp_path_factory.mktemp("runs") / "curriculum"
    cache = tmp_path_factory.mktemp("cache")
    evaluation(root / "0-base", "tiny-vl", 0.45)
    table = [{"name": "base", "folder": "0-base"}]
    titles = {"fra": "Foundational Reasoning Activation", "cmra": "Cross-Modal Reasoning Adaptation",
              "mre": "Multimodal Reasoning Enhancement"}  # fmt: skip
    for number, (phase, title) in enumerate(titles.items(), 1):
        folder = root / f"{number}-{phase}"
        training(folder, phase, title, cache, start=0.35 + 0.1 * number)
        evaluation(folder, f"{phase}/checkpoint", 0.5 + 0.08 * number)
        table.append({"name": phase, "folder": folder.name})
    (root / "curriculum.json").write_text(json.dumps({"phases": list(titles), "table": table}))
    return root
