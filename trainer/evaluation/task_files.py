"""A task as one TOML file: where its items are, what is asked, how an answer is scored, what is told apart.

Input: a file of the user, or the same words in a benchmark's file (`shared.benchmarks`). Output: a `Task`. Items come
from a file or folder in any layout that `shared.benchmark_files` reads, columns renamed as the file says, or from a
dataset version. A scorer is named (`LABELS` for the grader, `RULES` in its place), chosen by a field of
the item, or a Python function of the user's own, `scorer.py:function` beside the task file, which gets the item and the
answer and returns a bool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from pydantic import Field

from shared.answers import Verdict
from shared.benchmark import Item, plain_question
from shared.benchmarks import benchmark, declared
from shared.config import Strict, build_model, read_toml
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.fingerprint import bytes_hash
from shared.item_source import ItemReader, ItemSource, Names, checked_source, several
from shared.option_lists import list_options
from shared.own_code import load_function
from trainer.evaluation.task import Outcome, Status, Task, best

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FIELD = re.compile(r"\{(\w[\w .]*)\}")
_NUMBER = re.compile(r"^[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?$")

RESERVED = frozenset((
    "by_kind", "n", "accuracy", "stderr", "interval95", "correct", "unscored", "unscored_reasons", "no_answer",
    "unreadable", "unread_golds", "subset", "together", "official", "samples", "source", "asked", "from_store",
    "missing_outputs", "unknown_items", "mean_tokens", "mean_characters", "truncation_rate", "task_version",
    "task_file", "protocol",
))  # fmt: skip
"""Entries of every result, which no group may be called."""


class ScorerChoice(Strict):
    """A scorer by the value of one of the item's fields."""

    by: str = Field(description="Field of the item.")
    scorers: dict[str, str] = Field(description="Value of the field = name of a scorer.")
    otherwise: str = Field(default="answer", description="Scorer of items with another value.")


class TaskFile(Strict):
    """A task file."""

    title: str = Field(default="", description="How tables call it; empty: the file's name.")
    version: int = Field(default=1, description="Raised whenever question or scorer change what an output is worth.")
    protocol: str = Field(default="Graded by rules.", description="How this differs from the published protocol.")
    source: ItemSource = Field(default=ItemSource(), description="Where items come from.")
    question: str = Field(
        default="",
        description="Text with {question}, {options} and {FIELD}; empty: the question and its options.",
    )
    scorer: str | ScorerChoice = Field(default="answer", description="Name, FILE.py:FUNCTION, or a choice by a field.")
    tolerance: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Absolute error that numbers may have."
    )
    relative_tolerance: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Error relative to the gold."
    )
    decimals: str = Field(default="", description="Field with the decimals that a number must have right.")
    unit: str = Field(default="", description="Field with the unit of the gold.")
    official: str = Field(default="", description="Published rule to stand beside the score: a benchmark that has one.")
    groups: dict[str, Names] = Field(
        default={"by_subject": "category", "by_level": "level"},
        description="Tables of accuracy: name = field, or fields of which the first that says something counts.",
    )
    subset: str = Field(default="", description="Field that names the part of the benchmark; told in every result.")
    stratum: str = Field(default="", description="Field whose groups' accuracies are averaged for the headline.")
    cluster: Names = Field(default="", description="Fields that items of one problem share.")
    together: dict[str, Names] = Field(
        default={}, description="Shares of groups whose items are all right: name = fields that a group shares."
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scorer is told besides item and answer."""

    tolerance: float | None = None
    relative: float | None = None
    decimals: str = ""
    unit: str = ""

    def of(self, item: Item) -> Decimal | None:
        """Absolute error that this item's number may have."""
        places = field_of(item, self.decimals) if self.decimals else None
        if places not in (None, ""):
            return Decimal(5) / Decimal(10) ** (int(float(str(places))) + 1)
        if self.relative is not None:
            gold = plain_number(item.answer)
            return abs(gold) * Decimal(str(self.relative)) if gold is not None else None
        return Decimal(str(self.tolerance)) if self.tolerance is not None else None

    def label(self, item: Item) -> dict[str, Any]:
        """The item's label, with the limits that are told in place of what the item itself states."""
        bounded = self.tolerance is not None or self.relative is not None or bool(self.decimals)
        left = {*(("tolerance", "precision") if bounded else ()), *(("unit",) if self.unit else ())}
        label = {name: value for name, value in item.label().items() if name not in left}
        allowed, unit = self.of(item), field_of(item, self.unit) if self.unit else None
        return label | ({"tolerance": float(allowed)} if allowed else {}) | ({"unit": str(unit)} if unit else {})


LABELS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(("answer", "choice", "option", "number"), lambda label: label),
    "value": lambda label: {name: value for name, value in label.items() if name != "choices"},
    "several": lambda label: label | {"several": True},
}
"""Scorers that are the grader: what it is told. `answer`, `choice`, `option` and `number` are one, as an item's options
and tolerance tell; `value` takes no options; `several` is all of several answers in any order."""

Rule = Callable[[Item, str, Limits], Outcome]


def _letters(item: Item, answer: str, _: Limits) -> Outcome:
    """All letters of the gold and no other, in any order; a gold without letters is right where it is spelled."""
    words = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}", r"\1", answer)
    given = set(re.findall(r"(?<![A-Za-z])[A-J](?![A-Za-z])", words.upper())) if len(words) <= 60 else set()
    gold = set(re.findall(r"[A-J]", item.answer.upper()))
    if given == gold if gold else same_text(answer, item.answer):
        return Outcome(Status.CORRECT, "choice", "letters")
    return Outcome(Status.WRONG, "choice", "letters", "" if gold else Verdict.UNPARSABLE_GOLD.value)


def _relaxed(item: Item, answer: str, limits: Limits) -> Outcome:
    """ChartQA's rule: numbers within a share of the gold (percent signs aside), other answers as text."""
    given, gold = (_chart_number(text) for text in (answer, item.answer))
    if given is None or gold is None:
        return _text(item, answer, limits)
    near = given == gold if not gold else abs(given - gold) <= abs(gold) * Decimal(str(limits.relative or 0))
    return Outcome(Status.CORRECT if near else Status.WRONG, item.kind, "relaxed")


def _text(item: Item, answer: str, _: Limits) -> Outcome:
    return Outcome(Status.CORRECT if same_text(answer, item.answer) else Status.WRONG, item.kind, "text")


def _chart_number(text: str) -> Decimal | None:
    """A number; with a percent sign its hundredth, as the published rule has it."""
    plain = text.strip().strip("$").replace("\\%", "%").strip()
    number = plain_number(plain.removesuffix("%"))
    return number / 100 if number is not None and plain.endswith("%") else number


def plain_number(text: str) -> Decimal | None:
    """A number written with digits only (thousands commas, sign, exponent allowed), exactly; None for anything else."""
    text = text.strip().strip("$").replace("−", "-").replace("{,}", ",").strip()
    if not re.search(r"\d", text) or len(text) > 100 or not _NUMBER.match(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def same_text(first: str, second: str) -> bool:
    """Equality but for letter case, dollar signs, blanks and a final full stop."""

    def key(text: str) -> str:
        text = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", text)
        return re.sub(r"[\s$~]|\\[ ,;!]", "", text).rstrip(".").casefold()

    return bool(key(first)) and key(first) == key(second)


RULES: dict[str, Rule] = {"letters": _letters, "relaxed": _relaxed, "text": _text}
"""Published rules that are no comparison of values: all of several letters, ChartQA's relaxed accuracy, text alone."""


def load_task_file(path: Path) -> Task:
    """The task that a file describes, named like the file.

    Raises:
        UsageError: no such file, a wrong key or value, an unknown scorer.
        InfiMmrError: a scorer of the user's own that cannot be loaded.

    """
    name = path.stem.lower()
    if not _NAME.fullmatch(name):
        raise UsageError(f"task file {path.name}: {name!r} is not a name for results", "Use letters, digits and ._-")
    told = build_model(read_toml(path, "task"), TaskFile, what="task", file=path.name)
    checked_source(told.source, path)
    return _task(name, told, path)


def declared_task(name: str) -> Task:
    """The task of a benchmark of this project."""
    found = benchmark(name)
    told = build_model(dict(found.task), TaskFile, what="task", file=found.file.name)
    return replace(_task(name, told, found.file, own=False), **found.parts)


def _task(name: str, told: TaskFile, path: Path, *, own: bool = True) -> Task:
    for group in sorted(RESERVED & told.groups.keys()):
        raise UsageError(f"task {path.name}: groups.{group} is a name that every result has", "Give it another name")
    fields = _fields(told) if own else {}
    limits = Limits(told.tolerance, told.relative_tolerance, told.decimals, told.unit)
    named = _scorers(told.scorer, path)
    official = benchmark(told.official or name).official
    if told.official and official is None:
        known = [name for name in declared() if benchmark(name).official]
        raise UsageError(f"task {path.name}: no published rule {told.official!r}", did_you_mean(told.official, known))
    return Task(
        name=name,
        title=told.title or path.stem,
        version=told.version,
        labels=lambda item: [_label(one, named(item), limits) for one in _golds(item)],
        rule=lambda item, answer: _ruled(item, answer, named(item), limits),
        trial=lambda item: _tried(named(item), item, limits),
        protocol=told.protocol,
        question=_question(told.question) if told.question else plain_question,
        official=official,
        groups={group: _first_of(fields) for group, fields in told.groups.items()},
        subset=_getter(told.subset) if told.subset else None,
        stratum=_getter(told.stratum) if told.stratum else None,
        cluster=_joined(told.cluster) if told.cluster else None,
        together={share: _joined(fields) for share, fields in told.together.items()},
        items=ItemReader(told.source, path.parent, fields, own),
        origin=f"{path.name} sha256:{bytes_hash(path.read_bytes())[:16]}",
    )


def _fields(told: TaskFile) -> dict[str, Names]:
    """Fields of its items that a user's task file names, by the key that names them."""
    single = {"decimals": told.decimals, "unit": told.unit, "subset": told.subset, "stratum": told.stratum}
    single |= {"scorer.by": told.scorer.by} if isinstance(told.scorer, ScorerChoice) else {}
    found: dict[str, Names] = {key: name for key, name in single.items() if name}
    if "groups" in told.model_fields_set:
        found |= {f"groups.{group}": names for group, names in told.groups.items()}
    joined = {"cluster": told.cluster, **{f"together.{share}": names for share, names in told.together.items()}}
    for key, names in joined.items():  # each of these counts, not the first that is there
        one_by_one = (
            {key: names} if isinstance(names, str) else {f"{key}[{place}]": one for place, one in enumerate(names)}
        )
        found |= {key: name for key, name in one_by_one.items() if name}
    return found


OWN_SCORER = (
    "It is called as (item, answer): answer is the output's as text, item.answer the gold, "
    "item.extra[...] a field that [source] keeps; it returns True or False"
)
Scorer = str | Rule
"""A name in `LABELS` or `RULES`, or a function of the user's own."""


def _scorers(told: str | ScorerChoice, path: Path) -> Callable[[Item], Scorer]:
    """Which scorer an item has."""
    if isinstance(told, str):
        only = _scorer(told, path)
        return lambda _item: only
    scorers = {value: _scorer(name, path) for value, name in told.scorers.items()}
    otherwise = _scorer(told.otherwise, path)
    return lambda item: scorers.get(str(field_of(item, told.by)), otherwise)


def _scorer(name: str, path: Path) -> Scorer:
    if ".py:" in name:
        return _own_scorer(name, path)
    if name not in {*LABELS, *RULES}:
        hint = did_you_mean(name, [*LABELS, *RULES])
        raise UsageError(f"task {path.name}: unknown scorer {name!r}", f"{hint}; or FILE.py:FUNCTION of your own")
    return name


def _golds(item: Item) -> list[Item]:
    """The item with each of its right answers as its gold."""
    return [item, *(replace(item, answer=gold) for gold in item.extra.get("alternatives", ()))]


def _label(item: Item, scorer: Scorer, limits: Limits) -> dict[str, Any]:
    told = LABELS.get(scorer) if isinstance(scorer, str) else None
    return (told or LABELS["answer"])(limits.label(item))


def _ruled(item: Item, answer: str, scorer: Scorer, limits: Limits) -> Outcome | None:
    """The outcome by a rule of the task's own: of the first right answer that fits. None for the grader's scorers."""
    if scorer in LABELS:
        return None
    rule = RULES[scorer] if isinstance(scorer, str) else scorer
    return best([rule(one, answer, limits) for one in _golds(item)])


def _own_scorer(words: str, path: Path) -> Rule:
    """A function of the user's own file, which the task file names: `scorer.py:score`."""
    own = load_function(words, "item, answer", f"task {path.name}: scorer", path.parent)
    function = own.name.rpartition(":")[2]

    def score(item: Item, answer: str, _: Limits) -> Outcome:
        try:
            found = own.call(item, answer)
        except SystemExit as error:
            raise RuntimeError(f"{own.name} ended the program: SystemExit {error}") from error
        if isinstance(found, Outcome):
            return found
        if isinstance(found, int | float | str | list | tuple | dict) and found not in (0, 1):
            raise TypeError(f"{own.name} returned {found!r:.60}, and an answer is right (True) or wrong (False)")
        return Outcome(Status.CORRECT if bool(found) else Status.WRONG, item.kind, function)

    return score


def _tried(scorer: Scorer, item: Item, limits: Limits) -> None:
    """Call a user's scorer on an item's gold: a mistake in its code would leave every output unscored.

    Raises:
        InfiMmrError: it fails as code does that is wrong whatever the answer is.

    """
    if isinstance(scorer, str) or item.problem:
        return
    try:
        scorer(item, item.answer, limits)
    except (TypeError, AttributeError, NameError, LookupError, ImportError) as error:
        message = f"task {item.benchmark}: its scorer fails on item {item.key} ({type(error).__name__}: {error})"
        raise InfiMmrError(message, OWN_SCORER) from error
    except Exception:  # noqa: BLE001 - the gold of some tasks is no answer
        return


def field_of(item: Item, name: str) -> Any:
    """A field of an item: of `extra`, of the columns kept there, of the item itself, or of the benchmark's metadata."""
    for place in (item.extra, item.extra.get("columns")):
        if isinstance(place, Mapping) and place.get(name) is not None:
            return place[name]
    if name in {"key", "answer", "kind", "category", "level"}:
        return getattr(item, name)
    metadata = item.extra.get("metadata")
    return metadata.get(name) if isinstance(metadata, Mapping) else None


def _getter(name: str) -> Callable[[Item], str | None]:
    def get(item: Item) -> str | None:
        value = field_of(item, name)
        return None if value in (None, "") else ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return get


def _first_of(names: Names) -> Callable[[Item], str | None]:
    getters = [_getter(name) for name in several(names)]
    return lambda item: next((value for get in getters if (value := get(item)) is not None), None)


def _joined(names: Names) -> Callable[[Item], str]:
    getters = [_getter(name) for name in several(names)]
    return lambda item: "/".join(get(item) or "" for get in getters)


def _question(template: str) -> Callable[[Item], str]:
    """Fill a template; braces around anything that is no field of the item stay, as mathematics is full of them."""

    def ask(item: Item) -> str:
        known = {"question": item.question, "options": list_options(item.choices, "\n")}

        def fill(found: re.Match[str]) -> str:
            if found[1] in known:
                return known[found[1]]
            value = field_of(item, found[1])
            return found[0] if value is None else str(value)

        text = _FIELD.sub(fill, template)
        missing = item.question.count("<image>") - text.count("<image>")
        return "<image>\n" * max(missing, 0) + text.strip()

    return ask
