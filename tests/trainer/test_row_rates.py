"""Pass rates decide which rows train: the source's own, or the policy's; the plan says how many remain."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError, UsageError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.phase import load_phase
from trainer.plan import make_plan
from trainer.training_data import check_dataset, write_prompts

SMALL = ["train.max_steps=1", "rollout.batch_size=4", "train.batch_size=32"]
RATED = [*SMALL, "data.pass_rate_column=rating.pass_rate"]
BOUNDS = ["data.min_pass_rate=0.1", "data.max_pass_rate=0.9"]


@pytest.fixture
def rated(row, publish, tmp_path):
    """Sixteen rows: rates 0, 0.5 and 1 in turn, and one without a rating."""
    rows = [row("mini-deepscaler", index) for index in range(16)]
    for index, one in enumerate(rows):
        rate = (0.0, 0.5, 1.0)[index % 3]
        one["rating"] = {"pass_rate": rate, "low": 0.0, "high": 1.0, "samples": 8, "answer_tokens": 20.0}
    rows[15]["rating"] = None
    store = publish(tmp_path / "store", "deepscaler", rows)
    return store, {one["id"]: (one["rating"] or {}).get("pass_rate") for one in rows}


def trained(store, tmp_path, words, folder="run"):
    phase = load_phase("fra", "local", words)
    version = open_dataset("deepscaler", store)
    check_dataset(version, phase)
    summary = write_prompts(version, phase, BUNDLED_FOLDER, tmp_path / folder, tmp_path / "cache")
    lines = (tmp_path / folder / "prompts.jsonl").read_text().splitlines()
    return summary, [json.loads(json.loads(line)["label"])["id"] for line in lines]


def test_a_phase_with_bounds_trains_only_rows_whose_rate_lies_between_them(rated, tmp_path):
    store, rates = rated
    summary, ids = trained(store, tmp_path, [*RATED, *BOUNDS])
    assert {rates[name] for name in ids} == {0.5}
    assert summary.left_out["pass_rate"] == 10
    assert summary.left_out["no_pass_rate"] == 1
    assert open_dataset("deepscaler", store).verify(images=True).ok


def test_the_plan_says_how_many_rows_remain(rated):
    store, rates = rated
    plan = make_plan(load_phase("fra", "local", [*RATED, *BOUNDS]), store=store)
    assert plan["counts"]["rows"] == sum(rate == 0.5 for rate in rates.values()) == 5
    assert "5 of 16 rows" in plan["sources"]["rows"]
    assert "rating.pass_rate from 0.1 to 0.9" in plan["sources"]["rows"]


def test_without_bounds_a_named_column_leaves_every_row_and_the_order_as_it_was(rated, tmp_path):
    store, _ = rated
    assert trained(store, tmp_path, SMALL, "a") == trained(store, tmp_path, RATED, "b")


def test_weighted_by_variance_rows_passed_half_of_the_time_come_first(rated, tmp_path):
    store, rates = rated
    seen: Counter[float | None] = Counter()
    for seed in range(20):
        words = [*RATED, "data.rate_weight=variance", f"train.seed={seed}"]
        summary, ids = trained(store, tmp_path, words, f"seed{seed}")
        seen.update(rates[name] for name in ids)
        assert summary.distinct_rows == 4
    assert seen[0.5] > 0.8 * seen.total()
    again = [*RATED, "data.rate_weight=variance", "train.seed=3"]
    assert trained(store, tmp_path, again, "again")[1] == trained(store, tmp_path, again, "once-more")[1]


def test_a_column_that_is_not_there_is_told_with_what_makes_it(row, publish, tmp_path):
    store = publish(tmp_path / "store", "deepscaler", [row("mini-deepscaler", index) for index in range(8)])
    with pytest.raises(InfiMmrError, match=r"no column rating.pass_rate.*rate_difficulty"):
        trained(store, tmp_path, RATED)
    with pytest.raises(InfiMmrError, match="pass_rate_small"):
        trained(store, tmp_path, [*SMALL, "data.pass_rate_column=difficulty.pass_rate_smal"])
    with pytest.raises(UsageError, match="variance"):
        load_phase("fra", "local", ["data.rate_weight=varianc"])
