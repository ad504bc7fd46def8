# ruff: noqa: E501  lists of hostile texts read best on one line
"""Every gold of the real sets equals itself and differs from its wrong neighbours. Reads ../shared/data, never copies it."""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from shared.answers import answer_kind, check_gold, grade
from shared.answers.check import neighbours
from shared.answers.compare.readings import compare
from shared.answers.grade import _settle
from shared.answers.parse.reading import read

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real data is not beside this checkout (../shared/data)")


def golds(name: str) -> list[tuple[str, list[str] | None]]:
    if name == "math500":
        return [(a, None) for a in pl.read_parquet(DATA / "text/math500.parquet")["answer"]]
    if name == "gsm8k":
        return [(a.split("####")[1].strip(), None) for a in pl.read_parquet(DATA / "text/gsm8k_test.parquet")["answer"]]
    if name == "deepscaler":
        return [(a, None) for a in pl.read_parquet(DATA / "text/deepscaler_partial.parquet")["answer"] if a]
    if name == "mathvision":
        lines = (DATA / "bench/mathvision_test_text.jsonl").read_text(encoding="utf-8").splitlines()
        return [(r["answer"], r["options"] or None) for r in map(json.loads, lines)]
    table = json.loads((DATA / "bench/mathvista_testmini_text.json").read_text(encoding="utf-8"))
    return [(r["answer"], r["choices"]) for r in table.values()]


@needs_data
@pytest.mark.parametrize("name", ["math500", "gsm8k", "mathvision", "deepscaler", "mathvista"])
def test_every_gold_equals_itself_and_differs_from_each_wrong_neighbour(name):
    layers: Counter[str] = Counter()
    for gold, choices in golds(name):
        kind = answer_kind(gold, choices)
        assert grade(gold, gold, choices=choices).correct, gold
        for change, wrong in neighbours(gold, kind, choices).items():
            settled = _settle(gold, wrong, None, choices)
            layer = getattr(settled, "layer", "symbolic")
            layers[layer] += 1
            if layer == "symbolic":
                settled = grade(gold, wrong, choices=choices, timeout_seconds=120)
            assert not settled.correct, (gold, change, wrong)
    assert layers["symbolic"] < 0.05 * layers.total(), layers


@needs_data
@pytest.mark.parametrize("name", ["math500", "gsm8k", "mathvision", "deepscaler", "mathvista"])
def test_nearly_every_gold_that_is_mathematics_is_read_and_equals_its_own_reading(name):
    unread = 0
    for gold, choices in golds(name):
        if answer_kind(gold, choices) in ("choice", "text", "boolean"):
            continue
        reading = read(gold)
        if reading is None or compare(reading, reading) is not True:
            unread += 1
    assert unread <= 0.002 * len(golds(name)) + 1


@needs_data
def test_the_golds_of_math500_are_verified_for_the_data_engine():
    statuses = Counter(check_gold(gold).status for gold, _ in golds("math500"))
    assert statuses["verified"] >= 0.99 * statuses.total()


def test_a_gold_that_cannot_be_checked_says_why():
    assert check_gold("").reason == "empty_or_malformed"
    assert check_gold(r"\frac{1}{2").status == "unverifiable"
    verified = check_gold("5 cm")
    assert (verified.status, verified.kind, verified.reason) == ("verified", "quantity", "")
