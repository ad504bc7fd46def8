"""Captions that give the answer away, on pairs made by hand (`caption_leaks.jsonl`, each with its source)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.caption_leaks import caption_leak

PAIRS = [json.loads(line) for line in Path(__file__).with_name("caption_leaks.jsonl").read_text("utf-8").splitlines()]
HOSTILE = ["", " ", "(", "\\", "$", "-", "1" * 5000, "9" * 60 + "/0", "a" * 3000, "\\frac{1}", "1.2 × 10^99999"]


def judged(pair: dict[str, object]) -> bool:
    return caption_leak(pair["question"], pair["choices"], pair["gold"], pair["caption"]) is not None


def test_at_least_95_of_100_hand_made_pairs_are_judged_right_on_either_side() -> None:
    assert len(PAIRS) >= 200
    for leaks in (True, False):
        side = [pair for pair in PAIRS if pair["leaks"] == leaks]
        wrong = [pair for pair in side if judged(pair) != leaks]
        assert len(side) > 90
        assert len(wrong) <= 0.05 * len(side), wrong


def test_every_pair_states_its_source_and_no_pair_stands_twice() -> None:
    assert all(pair["source"] for pair in PAIRS)
    assert len({(pair["question"], pair["gold"], pair["caption"]) for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize(
    ("question", "gold", "caption"),
    [
        ("A rope of 12 m is cut. How long is it?", "12", "A rope labelled 12 m."),
        ("A rope of twelve metres is cut. How long is it?", "12", "A rope labelled 12 m."),
        ("A rope of 12 m is cut. How long is it?", "12", "A rope of twelve metres; the answer is 12."),
        ("Half of the pie is eaten. Which share is left?", "0.5", "A pie of which 50% are left."),
        ("A tenth, 1,200 of 12,000, is sold. How many?", "1200", "A stack of 1200 boxes."),
        ("一条绳子长12米，剪去一段。", "12", "绳子标注12米。"),
        ("图中三个圆，几个相切？", "3", "图中有三个圆。"),
        (r"The line $x = -2$ is drawn. What is $|x|$?", "2", "A line at 2."),
        (r"Simplify $2\sqrt{3}$.", r"2\sqrt{3}", "The term 2√3."),
    ],
)
def test_nobody_is_accused_where_question_and_caption_share_the_number(question: str, gold: str, caption: str) -> None:
    assert caption_leak(question, (), gold, caption) is None


def test_the_evidence_is_the_captions_own_words_with_their_surroundings() -> None:
    leak = caption_leak("How tall is it?", (), "7/2", "A tower beside a tree; the tower is 3.5 m tall.")
    assert leak is not None
    assert (leak.rule, leak.gold, leak.found) == ("number", "7/2", "3.5")
    assert leak.span == "A tower beside a tree; the tower is 3.5 m tall."
    stated = caption_leak("Which? (A) red (B) blue", ["red", "blue"], "B", "A red and a blue cube. The answer is (B).")
    assert stated is not None
    assert stated.rule == "stated"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("gold", HOSTILE)
def test_no_gold_and_no_caption_stops_or_stalls_the_judgement(gold: str) -> None:
    for caption in ("", "|" * 4000, "1/" * 4000, "a " * 4000, "- " * 4000, gold, "\\frac{" * 1000, "三个" * 2000):
        assert caption_leak("q", (), gold, caption) is None or gold in caption
        assert caption_leak("q (A) x", ["x", gold], "B", caption) is None or gold in caption
