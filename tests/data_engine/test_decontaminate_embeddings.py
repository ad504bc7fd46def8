"""The embedding step around the search: cells, evidence, failures, parity and planted duplicates, with known vectors.

The vectors come from a small deterministic projection of words and picture bytes put in place of the engine's answers,
so that this file tests the step alone; the model itself is driven in the slow tests of the runners.
"""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

from data_engine import ask_blocks, ask_job
from data_engine.decontamination import embedding_search
from data_engine.runners import Ask, Cell
from data_engine.runners.local import LocalRunner
from data_engine.steps import decontaminate_embeddings
from data_engine.steps.decontaminate_embeddings import Settings
from shared.vlm.spec import EngineSpec

WIDTH = 64


def projected(ask, images):
    """Sum of one random direction per word and per picture: near texts with the same picture get a high cosine."""
    parts = re.findall("[a-z]+", ask.text.lower()) + [images.get(sha256).hex() for sha256 in ask.images]
    seeds = [int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little") for part in parts]
    vector = sum((np.random.default_rng(seed).standard_normal(WIDTH) for seed in seeds), np.zeros(WIDTH))
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def projected_text(text):
    return projected(Ask("", text), None)


@pytest.fixture
def asked(monkeypatch):
    """Answer asks with `projected`; returns the texts asked so far."""
    texts = []

    def ask(self, engine, asks, sink, *, images, sampling=None, task=None):
        del self, engine, sampling, task
        for one in asks:
            texts.append(one.text)
            broken = "broken" in one.text
            sink([Cell(one.key, None if broken else {"vector": projected(one, images)}, "cannot" if broken else "")])
        return []

    monkeypatch.setattr(LocalRunner, "ask", ask)
    return texts


@pytest.fixture
def run(step_world, asked):
    del asked

    def run_step(rows, benchmarks, pictures=None, recipe=None, **settings):
        settings.setdefault("planted_duplicates", 0)
        engine = EngineSpec(model="tiny-vl", runner="pooling")
        context = step_world.context(rows, benchmarks, pictures, recipe=recipe)
        return decontaminate_embeddings.run(context, Settings(engine=engine, **settings))

    return run_step


ITEMS = [("i0", "alpha beta gamma delta epsilon"), ("i1", "one two three four five six")]
ROWS = [
    ("r0", "Alpha, beta, gamma; delta: epsilon!"),
    ("r1", "one two three four five seven"),
    ("r2", "quite other words"),
]


def test_every_row_has_its_best_item_of_every_benchmark_at_any_score(run, step_world):
    result = run(ROWS, [step_world.benchmark("m", ITEMS), step_world.benchmark("n", ITEMS[:1])])
    assert result.annotations.height == 6
    best = {
        (row, name): (item, score)
        for row, name, item, score in result.annotations.select("id", "benchmark", "item", "score").rows()
    }
    assert best["r0", "m"][0] == "i0"
    assert best["r0", "m"][1] == pytest.approx(1.0, abs=1e-5)
    assert best["r1", "m"][0] == "i1"
    assert 0.5 < best["r1", "m"][1] < 0.95
    evidence = dict(result.annotations.filter(benchmark="m").select("id", "evidence").rows())
    assert json.loads(evidence["r0"])["item"]["text"] == ITEMS[0][1]
    assert evidence["r2"] == "{}"


def test_a_new_row_or_benchmark_embeds_only_itself(run, step_world, asked):
    run(ROWS[:2], [step_world.benchmark("m", ITEMS)])
    assert len(asked) == 4
    again = run(ROWS[:2], [step_world.benchmark("m", ITEMS)])
    assert len(asked) == 4
    assert again.computed == 0
    run(ROWS, [step_world.benchmark("m", ITEMS), step_world.benchmark("n", [("j", "quite new words")])])
    assert sorted(asked[4:]) == ["quite new words", "quite other words"]


def test_rows_are_compared_once_with_each_benchmark(run, step_world, monkeypatch):
    compared = []
    real = embedding_search.nearest

    def spy(rows, items, backend):
        compared.append(len(rows))
        return real(rows, items, backend)

    monkeypatch.setattr(embedding_search, "nearest", spy)
    run(ROWS[:2], [step_world.benchmark("m", ITEMS)])
    run(ROWS, [step_world.benchmark("m", ITEMS)])
    assert compared == [2, 1]


def test_a_row_that_cannot_be_embedded_is_a_failure_and_is_asked_again(run, step_world, asked):
    rows = [*ROWS[:1], ("bad", "a broken row")]
    result = run(rows, [step_world.benchmark("m", ITEMS)])
    assert result.failures.rows() == [("bad", "cannot")]
    assert result.annotations["id"].to_list() == ["r0"]
    run(rows, [step_world.benchmark("m", ITEMS)])
    assert asked.count("a broken row") == 2


def test_what_parity_was_checked_stands_in_the_record_of_the_model(run, step_world):
    result = run(ROWS, [step_world.benchmark("m", ITEMS)])
    assert result.warnings == []
    (model,) = result.record["models"]
    assert model["parity"]["lowest_cosine"] is None
    assert model["parity"]["note"]
    assert result.record["coverage"]["m"]["decontaminate_embeddings"] == {"items": 2, "embedded": 2}


def test_planted_duplicates_count_at_the_recipes_threshold(run, step_world):
    pictures = step_world.Pictures()
    items = [
        (f"i{n}", f"{ITEMS[0][1]} {word}", [], [pictures.add(step_world.drawing(n))]) for n, word in enumerate("xyz")
    ]
    recipe = {"assemble": {"cosine_threshold": 0.99}}
    result = run(ROWS, [step_world.benchmark("m", items, pictures)], recipe=recipe, planted_duplicates=2)
    recall = result.record["planted_duplicates"]["decontaminate_embeddings"]
    assert recall["verbatim"]["recall"] == recall["case"]["recall"] == 1.0
    assert recall["embedded"]["recall"] == 0.0
    loose = run(
        ROWS,
        [step_world.benchmark("m", items, pictures)],
        recipe={"assemble": {"cosine_threshold": 0.1}},
        planted_duplicates=2,
    )
    assert loose.record["planted_duplicates"]["decontaminate_embeddings"]["embedded"]["recall"] == 1.0
    assert set(result.annotations["id"]) == {"r0", "r1", "r2"}


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_best_items_do_not_depend_on_how_items_are_cut_into_blocks(run, step_world, monkeypatch, at_once):
    items = [(f"i{n}", text) for n, (_, text) in enumerate([*ITEMS, *ROWS, ITEMS[0], ITEMS[1]])]
    rows = [(f"r{n}", f"{text} {n % 3}") for n, (_, text) in enumerate([*ROWS, *ITEMS] * 3)]
    monkeypatch.setattr(embedding_search, "ITEMS", at_once)
    monkeypatch.setattr(ask_blocks, "BUCKET_KEYS", 4)
    monkeypatch.setattr(ask_job, "SPREAD_FROM", 4)
    result = run(rows, [step_world.benchmark("m", items), step_world.benchmark("n", items[2:5])])
    for name, theirs in (("m", items), ("n", items[2:5])):
        texts = [text for _, text in theirs]
        for row, text in rows:
            found = result.annotations.filter(id=row, benchmark=name).row(0, named=True)
            same = projected_text(text) @ np.stack([projected_text(item) for item in texts]).T
            assert found["item"] == theirs[int((same >= same.max() - 1e-6).argmax())][0]
            assert found["score"] == pytest.approx(float(same.max()), abs=2e-6)


def test_nothing_to_compare_gives_an_empty_frame(run, step_world):
    assert run(ROWS, []).annotations.height == 0
    assert run(ROWS, [step_world.benchmark("m", [])]).annotations.height == 0
    assert run([], [step_world.benchmark("m", ITEMS)]).annotations.height == 0


def test_vectors_whose_bytes_changed_on_the_store_are_asked_again(run, step_world, asked, tmp_path):
    first = run(ROWS, [step_world.benchmark("m", ITEMS)])
    folder = tmp_path / "store" / "annotations"
    (segment,) = (folder / "embeddings").glob("*/*.parquet")
    data = bytearray(segment.read_bytes())
    data[len(data) // 4] ^= 1  # a number of some vector; keys stand behind
    segment.chmod(0o644)
    segment.write_bytes(data)
    for cells in (folder / "decontaminate_embeddings").glob("*/*.parquet"):
        cells.unlink()
    again = run(ROWS, [step_world.benchmark("m", ITEMS)])
    assert again.annotations.equals(first.annotations)
    assert sorted(asked) == sorted(2 * [text for _, text in [*ROWS, *ITEMS]])
