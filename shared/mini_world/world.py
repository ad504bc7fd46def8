"""Drawing problems: a split, an index, and the same problem on every machine.

Input: the name of a split and an index. Output: a `Problem` with picture, caption, question, answer and the way to it.
Not covered: shaping rows like a public dataset (the mini source does that), edits of pictures.
"""

from __future__ import annotations

import difflib
import hashlib
import random

from shared.mini_world.charts import BAR, LINE
from shared.mini_world.equation import EQUATION
from shared.mini_world.geometry import ANGLES, RECTANGLE, TRIANGLE
from shared.mini_world.graph import GRAPH
from shared.mini_world.interface import INTERFACE
from shared.mini_world.kinds import Content, Form, Kind
from shared.mini_world.landscape import LANDSCAPE
from shared.mini_world.problem import Asked, Problem, format_choices
from shared.mini_world.receipt import RECEIPT
from shared.mini_world.scene import SCENE
from shared.mini_world.splits import Split, split_of
from shared.mini_world.table import TABLE
from shared.mini_world.text import TEXT_KINDS

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
    rules = split_of(split)
    if index < 0:
        message = f"the mini world counts problems from 0, not {index}"
        raise ValueError(message)
    seed = f"mini-world/1/{split}/{index}/{int(text_only)}/{kind or ''}"
    rng = random.Random(int.from_bytes(hashlib.sha256(seed.encode()).digest()))  # noqa: S311  # pictures, not secrets
    while True:
        grade = rng.choice(rules.grades)
        chosen = _choose_kind(kind, grade, rng, text_only=text_only or rules.text_only)
        content = _owned_content(chosen, rules, rng)
        asked = _ask(chosen, content, grade, rng)
        if asked is not None:
            form, answers = asked
            return _finish(f"{split}-{index}", split, index, chosen, content, form, answers, rules, rng)


def contents(problem: Problem) -> str:
    """What a problem is about, without its wording: equal only for equal pictures or equal calculations."""
    return problem.caption or f"{problem.kind}: {problem.thinking}"


def _choose_kind(name: str | None, grade: str, rng: random.Random, *, text_only: bool) -> Kind:
    if name is not None:
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KINDS)}"
            message = f"the mini world has no kind {name!r}; {hint}"
            raise KeyError(message)
        return KINDS[name]
    if text_only:
        return rng.choice([kind for kind in TEXT_KINDS if kind.forms[0].grade == grade])
    return rng.choice(PICTURE_KINDS)


def _owned_content(kind: Kind, rules: Split, rng: random.Random) -> Content:
    """A content of the kind that belongs to the split."""
    while True:
        content = kind.sample(rng)
        # A text problem is its numbers: the words it is told in may occur in every split.
        identity = kind.facts(content) if kind.paint else content.values
        if rules.owns(f"{kind.name}: {identity}"):
            return content


def _ask(kind: Kind, content: Content, grade: str, rng: random.Random) -> tuple[Form, Asked] | None:
    """A form of the wanted grade where the kind has one, and what it asks."""
    forms = [form for form in kind.forms if form.grade == grade] or list(kind.forms)
    rng.shuffle(forms)
    for form in forms:
        asked = form.ask(content, rng)
        if asked is not None:
            return form, asked
    return None


def _finish(  # noqa: PLR0913  # the pieces of one problem
    key: str,
    split: str,
    index: int,
    kind: Kind,
    content: Content,
    form: Form,
    asked: Asked,
    rules: Split,
    rng: random.Random,
) -> Problem:
    stem = rng.choice(form.wordings[rules.wordings]).format(**asked.fields)
    name, answer, thinking = f"{kind.name}/{form.name}", asked.answer, asked.thinking
    choices: tuple[str, ...] = ()
    wrong = [option for option in dict.fromkeys(asked.options) if option != answer][: _OPTIONS - 1]
    if len(wrong) >= 2 and rng.random() < _CHOICE_SHARE:  # noqa: PLR2004  # fewer than three options are no choice
        values = [answer, *wrong]
        rng.shuffle(values)
        choices = tuple(values)
        letter = "ABCDEFGH"[choices.index(answer)]
        thinking = f"{thinking} {answer} is option {letter}."
        name, answer = f"{name}-choice", letter
    canvas = kind.paint(content, rng) if kind.paint else None
    facts = kind.facts(content) if canvas else ()
    return Problem(
        key=key,
        split=split,
        index=index,
        kind=kind.name,
        form=name,
        grade=form.grade,
        stem=stem,
        question=f"{stem} {format_choices(choices)}" if choices else stem,
        answer=answer,
        choices=choices,
        thinking=thinking,
        image_png=canvas.png() if canvas else None,
        image_type=kind.image_type,
        caption=" ".join(facts),
        facts=facts,
        marks=tuple(canvas.marks) if canvas else (),
    )
