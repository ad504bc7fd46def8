"""Every benchmark file at hand: its own golds score 100%, another item's gold scores what chance allows."""

from collections import Counter
from pathlib import Path

import pytest

from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import load_items
from trainer.evaluation.results import summarise
from trainer.evaluation.scoring import score
from trainer.evaluation.tasks import task

DATA = Path(__file__).parents[3].parent / "shared/data"
FILES = [
    ("math500", "text/math500.parquet"),
    ("mathverse", "bench/mathverse_testmini_text_only.json"),
    ("mathverse", "bench/mathverse_via_solidgeo_150.parquet"),
    ("mathvision", "bench/mathvision_test_text.jsonl"),
    ("mathvision", "bench/mathvision_testmini.parquet"),
    ("mathvision", "bench/mathvision_test_extra200.parquet"),
    ("mathvision", "bench/mathvision_via_solidgeo_120.parquet"),
    ("olympiadbench", "text/olympiadbench_oe_tp_maths_en.parquet"),
    ("mathvista", "bench/mathvista_testmini_text.json"),
    ("gsm8k", "text/gsm8k_test.parquet"),
]


def loaded(name, file):
    if not (DATA / file).is_file():
        pytest.skip(f"real data is not here: {file}")
    return load_items(name, str(DATA / file), None, images=False).items


def outputs(items, text_of):
    return [(item, 0, StoredAnswer(text_of(place, item), 0, 0, truncated=False)) for place, item in enumerate(items)]


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("form", ["<think>So.</think>\n\\boxed{%s}", "%s"])
def test_golds_as_the_file_writes_them_score_every_item(name, file, form):
    items = loaded(name, file)
    entries = score(task(name), outputs(items, lambda _place, item: form % item.extra["answer_raw"]))
    wrong = [(entry.item.key, entry.item.answer, entry.outcome) for entry in entries if not entry.correct]
    assert wrong == []


@pytest.mark.parametrize(("name", "file"), FILES)
def test_the_gold_of_another_item_scores_what_chance_allows(name, file):
    items = loaded(name, file)
    shift = len(items) // 2
    other = [items[(place + shift) % len(items)].answer for place in range(len(items))]
    result = summarise(task(name), score(task(name), outputs(items, lambda place, _item: f"\\boxed{{{other[place]}}}")))
    # Chance: two items drawn at random have the same gold text; a value equal to another under a letter adds little.
    golds = Counter(item.answer for item in items)
    chance = sum(count * (count - 1) for count in golds.values()) / (len(items) * (len(items) - 1))
    assert result["n"] == len(items)
    assert result["accuracy"] <= chance + 4 * max(result["stderr"], 0.5 / len(items) ** 0.5 / 4) + 0.01
