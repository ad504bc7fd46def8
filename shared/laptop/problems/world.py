"""Drawing problems: a split, an index, and the same problem on every machine.

Input: the name of a split and an index. Output: a `Problem` with picture, caption, question, answer and the way to it.
Not covered: shaping rows like a public dataset (the mini source does that), edits of pictures.
"""

from __future__ import annotations

import hashlib
import random

from shared.laptop.problems.charts import BAR, LINE
from shared.laptop.problems.equation import EQUATION
from shared.laptop.problems.geometry import ANGLES, RECTANGLE, TRIANGLE
from shared.laptop.problems.graph import GRAPH
from shared.laptop.problems.interface import INTERFACE
from shared.laptop.problems.kinds import Content, Form, Kind
from shared.laptop.problems.landscape import LANDSCAPE
from shared.laptop.problems.problem import Asked, Problem
from shared.laptop.problems.receipt import RECEIPT
from shared.laptop.problems.scene import SCENE
from shared.laptop.problems.splits import Split, split_of, unknown
from shared.laptop.problems.table import TABLE
from shared.laptop.problems.text import TEXT_KINDS
from shared.option_lists import format_choices, list_options

PICTURE_KINDS: tuple[Kind, ...] = (
    BAR, LINE, TABLE, TRIANGLE, RECTANGLE, ANGLES, GRAPH, EQUATION, INTERFACE, RECEIPT, SCENE, LANDSCAPE,
)  # fmt: skip
KINDS: dict[str, Kind] = {kind.name: kind for kind in (*PICTURE_KINDS, *TEXT_KINDS)}

_CHOICE_SHARE = 0.2
_OPTIONS = 4


def draw(split: str, index: int, *, text_only: bool = False, kind: str | None = None) -> Problem:
    """The problem number `index` of a split; about a millisecond.

    Splits whose benchmark has no pictures ("mini-deepscaler", "mini-math500", "mini-olympiadbench") always give text
    problems, the others give pictures unless `text_only`. `kind` narrows to one kind of `KINDS` (`bar`, `sum`, ...).

    Raises:
        KeyError: no such split or kind; the message names the nearest one.
        ValueError: a negative index.
    """
    return draw_family(split, index, 1, text_only=text_only, kind=kind)[0]


def draw_family(  # what to draw, and how it is asked
    split: str,
    index: int,
    count: int,
    *,
    text_only: bool = False,
    kind: str | None = None,
    choice_share: float = _CHOICE_SHARE,
) -> list[Problem]:
    """`count` questions about one content; the first is what `draw` gives with the same arguments.

    `choice_share` is the share of questions that are asked with options, where that makes sense.

    Raises:
        KeyError: no such split or kind; the message names the nearest one.
        ValueError: a negative index.
    """
    rules = split_of(split)
    if index < 0:
        raise ValueError(f"the mini world counts problems from 0, not {index}")
    seed = f"mini-world/1/{split}/{index}/{int(text_only)}/{kind or ''}"
    rng = _generator(seed)
    chosen, first_grade = _choose_kind(kind, rules, rng, text_only=text_only or rules.text_only)
    content = _owned_content(chosen, rules, rng)
    canvas = chosen.paint(content, _generator(f"{seed}/paint")) if chosen.paint else None
    png = canvas.png() if canvas else None
    facts = chosen.facts(content) if canvas else ()
    family = []
    for number in range(count):
        form, asked = _ask(chosen, content, rng.choice(rules.grades) if number else first_grade, rng)
        stem, choices, answer, thinking = _word(form, asked, rules, rng, choice_share)
        family.append(
            Problem(
                key=f"{split}-{index}" + (f".{number}" if number else ""),
                split=split,
                index=index,
                kind=chosen.name,
                form=f"{chosen.name}/{form.name}" + ("-choice" if choices else ""),
                grade=form.grade,
                stem=stem,
                question=f"{stem} {format_choices(choices)}" if choices else stem,
                answer=answer,
                choices=choices,
                thinking=thinking,
                image_png=png,
                image_type=chosen.image_type,
                caption=" ".join(facts),
                facts=facts,
                marks=tuple(canvas.marks) if canvas else (),
            )
        )
    return family


def _generator(seed: str) -> random.Random:
    return random.Random(int.from_bytes(hashlib.sha256(seed.encode()).digest()))  # pictures, not secrets


def _choose_kind(name: str | None, rules: Split, rng: random.Random, *, text_only: bool) -> tuple[Kind, str]:
    """A kind, and the grade of its first question."""
    grade = rng.choice(rules.grades)
    if name is not None:
        if name not in KINDS:
            raise unknown("kind", name, KINDS)
        return KINDS[name], grade
    if text_only:
        return rng.choice([kind for kind in TEXT_KINDS if kind.forms[0].grade == grade]), grade
    return rng.choice(PICTURE_KINDS), grade


def _owned_content(kind: Kind, rules: Split, rng: random.Random) -> Content:
    """A content of the kind that belongs to the split."""
    while True:
        content = kind.sample(rng)
        # A text problem is its numbers: the words it is told in may occur in every split.
        identity = kind.facts(content) if kind.paint else content.values
        if rules.owns(f"{kind.name}: {identity}"):
            return content


def _ask(kind: Kind, content: Content, grade: str, rng: random.Random) -> tuple[Form, Asked]:
    """A form of the wanted grade where the kind and the content have one, and what it asks."""
    forms = list(kind.forms)
    rng.shuffle(forms)
    forms.sort(key=lambda form: form.grade != grade)
    for form in forms:
        asked = form.ask(content, rng)
        if asked is not None:
            return form, asked
    # Every kind has a form that never declines.
    raise AssertionError(f"kind {kind.name}: no form can ask about {content}")


def _word(
    form: Form, asked: Asked, rules: Split, rng: random.Random, choice_share: float
) -> tuple[str, tuple[str, ...], str, str]:
    """A wording of the split, options for some, the answer, and the way to it."""
    stem = rng.choice(form.wordings[rules.wordings]).format(**asked.fields)
    wrong = [option for option in dict.fromkeys(asked.options) if option != asked.answer][: _OPTIONS - 1]
    if len(wrong) < 2 or rng.random() >= choice_share:  # fewer than three options are no choice
        return stem, (), asked.answer, asked.thinking
    values = [asked.answer, *wrong]
    rng.shuffle(values)
    place = values.index(asked.answer)
    # The options are read off up to the right one: a small model copies and stops more easily than it looks back.
    read = list_options(tuple(values[: place + 1]))
    return stem, tuple(values), "ABCDEFGH"[place], f"{asked.thinking} {read}."
