"""Datasets for the trainer's tests: rows of the mini world, published as a dataset version, without the data engine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Publish = Callable[..., str]


def mini_row(split: str, index: int, *, captions: bool = True) -> dict[str, Any]:
    """One row of a dataset version from one problem of the mini world."""
    from shared.answers import answer_kind
    from shared.laptop import draw

    problem = draw(split, index)
    picture = problem.image_png
    hashes = [hashlib.sha256(picture).hexdigest()] if picture else []
    return {
        "id": problem.key,
        "question": ("<image>" if picture else "") + problem.question,
        "answer": problem.answer,
        "answer_kind": answer_kind(problem.answer, list(problem.choices)),
        "choices": list(problem.choices),
        "images": [{"bytes": picture, "path": f"{problem.key}.png"}] if picture else [],
        "image_types": [problem.image_type] if picture else [],
        "captions": [problem.caption if captions else None] if picture else [],
        "category": problem.kind,
        "source": "mini",
        "difficulty": None,
        "answer_raw": problem.answer,
        "extra": None,
        "source_name": split,
        "source_id": problem.key,
        "source_location": "mini",
        "source_revision": "1",
        "row_hash": hashlib.sha256(problem.key.encode()).hexdigest(),
        "image_hashes": hashes,
    }


def traced_row(index: int) -> dict[str, Any]:
    """A text row with a right answer and the way to it in `extra.trace`; every 20th ends wrong, every 12th has none."""
    from shared.laptop import draw

    problem = draw("mini-deepscaler", 100_000 + index)
    wrong = f"<think>{problem.thinking}</think>\n\\boxed{{{problem.answer}0}}"
    trace = wrong if index % 20 == 19 else problem.response
    row = mini_row("mini-deepscaler", 100_000 + index)
    return row if index % 12 == 11 else row | {"extra": json.dumps({"trace": trace})}


def publish_rows(
    store: Path, name: str, rows: list[dict[str, Any]], *, profile: str = "local", row_groups: int = 64
) -> str:
    """Publish rows as a dataset version; returns its store as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from shared.dataset_version import ManifestDraft, publish
    from shared.schema import row_schema

    folder = store.parent / f"shards-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data-00000.parquet"
    schema = row_schema([name for one in rows for name in one])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, row_group_size=row_groups)
    publish(store, ManifestDraft(name=name, profile=profile), [file])
    return str(store)


@pytest.fixture
def publish() -> Publish:
    return publish_rows


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    return mini_row


@pytest.fixture
def traced() -> Callable[..., dict[str, Any]]:
    return traced_row


@pytest.fixture(scope="session")
def mini_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Store of profile local: text rows, the same with traces, pictures with captions, two benchmarks."""
    store = tmp_path_factory.mktemp("mini") / "store"
    publish_rows(store, "deepscaler", [mini_row("mini-deepscaler", index) for index in range(200)])
    publish_rows(store, "reasoning-traces", [traced_row(index) for index in range(120)])
    publish_rows(store, "virl39k-captioned", [mini_row("mini-virl39k", index) for index in range(200)])
    for name in ("math500", "mathverse"):
        publish_rows(store, name, [mini_row(f"mini-{name}", index) for index in range(40)])
    return str(store)


@pytest.fixture(autouse=True)
def no_task_of_another_test(monkeypatch):
    """A task file that one test names is known to the whole process: the next test starts without it."""
    from trainer.evaluation import tasks

    monkeypatch.setattr(tasks, "_OWN", {})


SERVES = """
import importlib, json, os, sys, traceback
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)                       # what libraries print is no answer
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)   # raises if a target has moved
for line in sys.stdin:
    code, environment = json.loads(line)
    out, into = os.pipe()
    if os.fork() == 0:
        os.dup2(into, 1)
        os.environ.update(environment)
        try:
            exec(code, {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as said:
        told.write(json.dumps(said.read()) + "\\n")
    told.flush()
    os.wait()
"""


@pytest.fixture(scope="session")
def in_a_run() -> Iterator[Callable[..., str]]:
    """Have code run in a process of a run without CUDA; gives what it prints. All are forked from one that imports."""
    from trainer.openrlhf_bridge import cpu_compat

    environment = {**os.environ, **cpu_compat.environment()}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], root])
    modules = json.dumps([adaptation.module for adaptation in cpu_compat.ADAPTATIONS])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVES, modules], env=environment, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def said(code: str, **variables: str) -> str:
            print(json.dumps([code, variables]), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer, "the process that imports has ended"
            return json.loads(answer)

        yield said
        process.kill()
