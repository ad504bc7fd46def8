"""Planted copies: chosen the same way every time, edited as their kind says, counted by kind."""

from __future__ import annotations

import re

import pytest

from data_engine.decontamination import planting
from data_engine.decontamination.planting import KINDS, Original, PlantedDuplicate, plant, recall
from data_engine.duplicates.image_identity import image_print, relation
from shared.errors import InfiMmrError


def no_pictures(sha256):
    raise InfiMmrError(f"no picture {sha256}")


def originals(count=10, question="Let $x^2+y=3$ hold. How many of the {} points lie on the curve?"):
    return [Original(f"item{i}", question.format(i + 10), ("yes", "the red circle")) for i in range(count)]


def one(kind, question, choices=("a", "b")):
    [copy] = [one for one in plant([Original("i", question, choices)], no_pictures, 1) if one.kind == kind]
    return copy


def test_every_text_kind_is_planted_as_often_as_asked():
    planted = list(plant(originals(), no_pictures, 4))
    assert {kind: sum(copy.kind == kind for copy in planted) for kind in KINDS} == dict.fromkeys(
        planting.TEXT_KINDS, 4
    ) | dict.fromkeys(planting.IMAGE_KINDS, 0)
    assert all(copy.original in range(10) for copy in planted)


def test_the_same_copies_are_planted_whatever_the_order_of_the_items():
    items = originals()
    first = {(c.kind, items[c.original].id, c.question) for c in plant(items, no_pictures, 3)}
    items.reverse()
    assert first == {(c.kind, items[c.original].id, c.question) for c in plant(items, no_pictures, 3)}


def test_edits_do_what_their_kind_says():
    question = "Solve $x^2 + 1=5$ for x, given 12 equations"
    assert one("verbatim", question).question == question
    assert question in one("embedded", question).question
    assert question.startswith(one("part", question).question)
    assert re.findall("[0-9]+", one("numbers_changed", question).question) == ["5", "4", "8", "15"]
    respaced = one("latex_respaced", question).question
    assert respaced != question
    assert respaced.replace(" ", "") == question.replace(" ", "")
    spaced = one("whitespace", question).question
    assert spaced != question
    assert spaced.split() == question.split()
    assert one("case", "<image>" + question).question == "<image>" + question.upper()
    translated = one("options_translated", question, ("yes", "7 cm"))
    assert translated.choices == ("选项：是", "选项：7 厘米")


@pytest.mark.parametrize(
    ("kind", "question", "choices"),
    [
        ("numbers_changed", "no number here", ()),
        ("latex_respaced", "no formula here", ()),
        ("options_translated", "no options here", ()),
        ("part", "too short", ()),
        ("verbatim", "", ()),
        ("image_cropped", "no picture", ()),
    ],
)
def test_an_edit_that_cannot_be_made_plants_nothing(kind, question, choices):
    assert kind not in {copy.kind for copy in plant([Original("i", question, choices)], no_pictures, 3)}


def test_pictures_are_reencoded_resized_and_cropped(step_world):
    pictures = step_world.Pictures()
    shown = pictures.add(step_world.drawing(4, (200, 120)))
    item = Original("i", "What is shown?", (), (shown,))
    planted = [copy for copy in plant([item], pictures.get, 1) if copy.kind in planting.IMAGE_KINDS]
    assert [copy.kind for copy in planted] == [*planting.IMAGE_KINDS]
    for copy in planted:
        [hash_] = planting.image_hashes(copy, [item])
        assert hash_ != shown
        how, _ = relation([image_print(hash_, copy.images[0])], [image_print(shown, pictures.get(shown))])
        assert how == "same", copy.kind
    assert planting.image_hashes(PlantedDuplicate("verbatim", 0, "q", ()), [item]) == (shown,)


def test_recall_counts_by_kind():
    assert recall([("a", True), ("a", False), ("b", True)]) == {
        "a": {"planted": 2, "found": 1, "recall": 0.5},
        "b": {"planted": 1, "found": 1, "recall": 1.0},
    }
    assert recall([]) == {}
