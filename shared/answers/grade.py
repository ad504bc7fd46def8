"""Grades one answer against its gold: cheap layers in this process, symbols in the worker pool.

Order of work: exact after normalisation; choices, truth words and text by their own rules; mathematics by exact
rational and
60-digit arithmetic over structures (`reading`, `compare`); and only what those cannot settle by math-verify in `pool`.
No function here raises on any pair of strings, and the wall time of one pair is bounded by its deadline plus half a
second.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from shared.answers.compare import compare
from shared.answers.expression import variables
from shared.answers.extract import extract_answer
from shared.answers.forms import Reading
from shared.answers.golds import gold_answer
from shared.answers.kinds import kind_family
from shared.answers.normalise import matching_brace, normalise, strip_wrappers
from shared.answers.outcome import Grade, Verdict
from shared.answers.pool import GraderPool, Settlement, default_pool
from shared.answers.reading import MAX_CHARACTERS, NUMBER_WORDS, read
from shared.answers.stated_unit import is_multiplier, with_stated_unit, without_stated_unit
from shared.answers.words import denies, is_truth_word, letters_in, same_text, truth_of, without_hedge, without_prose

DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of one pair in the symbolic layer, waiting for a worker included."""

MAX_TEXT_CHARACTERS = 20_000
"""An answer beyond this length is unparsable; a gold too."""

_SYMBOLIC = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|begin|det|gcd|lcm|max|min|pmod|bmod|mod|partial|nabla|cdots|ldots|dots|vec|overline|hat|bar|dot|mathbb|setminus"
    r"|cap|mid|arg|Re|Im|ln|log|sin|cos|tan|exp|frac|sqrt|binom|prime|overrightarrow|perp|parallel|exists|forall|notin|subset|land|lor)(?![A-Za-z])"
)
_HAS_CONTENT = re.compile(r"[^\W_]|\\[A-Za-z]{2,}|[^\x00-\x7f]|\\\{|\{\s*\}\Z")
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_AND_FRACTION = re.compile(
    r"^(\d{1,9})\s*(?:and|\\text\s*\{\s*and\s*\})\s*(?:(\d{1,9})\s*/\s*(\d{1,9})|\\[dt]?frac\s*\{(\d{1,9})\}\s*\{(\d{1,9})\})$"
)
MAX_WORDS_CHARACTERS = 80
_SEVERAL_FORMULAS = re.compile(r"(?<!\\)\$|\n|[^\x00-\x7f]")
_SPACES = re.compile(r"\s+(?![A-Za-z0-9])|(?<![A-Za-z0-9])\s+")


def squash(text: str) -> str:
    """The normalised answer with white space only between letters or digits (1 1/2 is not 11/2).

    What "exact" compares.
    """
    return _SPACES.sub("", normalise(text))


def _well_formed(gold: str) -> bool:
    """Whether a gold can be compared at all: some content, balanced braces, no null bytes, a bounded length."""
    if len(gold) > MAX_TEXT_CHARACTERS or "\x00" in gold or not _HAS_CONTENT.search(strip_wrappers(gold)):
        return False
    if "{" in gold or "}" in gold:
        wrapped = "{" + gold + "}"
        return matching_brace(wrapped, 0) == len(wrapped) - 1
    return True


def reading_kind(reading: Reading) -> str:
    """The kind of an answer that was read as mathematics."""
    if reading.form == "value":
        unit = reading.unit
        if unit is not None and not unit.is_generic:
            return (
                "percent"
                if unit.is_percent
                else "degree"
                if unit.is_degree
                else "money"
                if unit.is_money
                else "quantity"
            )
        if reading.relation and reading.node is not None and variables(reading.node):
            return "equation"
        return reading.style
    if reading.form == "relation":
        return "equation" if reading.relation and reading.relation[0] == "=" else "inequality"
    if reading.form == "interval":
        return "inequality" if reading.label else "interval"
    return {"list": "set"}.get(reading.form, reading.form)


def answer_kind(gold: str, choices: Sequence[str] | None = None) -> str:
    """The kind of a gold answer, one of ANSWER_KINDS.

    With choices every gold is a choice; without, one or several capital letters A to J are. Never raises.
    """
    gold = gold_answer(gold, choices).answer or gold
    letters = letters_in(gold) if len(gold) <= 40 else None
    if choices or (
        (letters is not None and not letters[1] and any(c in "ABCDEFGHIJ" for c in gold)) or _is_bracketed_letter(gold)
    ):
        return "choice"
    if is_truth_word(gold):
        return "boolean"
    reading = read(gold)
    if reading is not None:
        return reading_kind(reading)
    symbols = len(gold) < MAX_CHARACTERS and _SYMBOLIC.search(gold) is not None and len(_PLAIN_WORD.findall(gold)) <= 2
    return "expression" if symbols else "text"


def _is_bracketed_letter(gold: str) -> bool:
    return bool(re.fullmatch(r"\s*\(\s*[A-Ja-j]\s*\)\s*", gold))


PAIRS_PER_WORKER = 32
"""Symbolic pairs for which another worker is loaded: loading takes the CPU time of some 700 pairs (facts), but a pair
may also take all of its deadline, and then a second worker saves as much wall time."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A pair that only the symbolic layer can settle."""

    gold: str
    pred: str
    kind: str
    type_match: bool


def grade(
    pred: str,
    gold: str,
    *,
    kind: str | None = None,
    choices: Sequence[str] | None = None,
    tolerance: float | None = None,
    unit: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    processor_seconds: float = 0.0,
    pool: GraderPool | None = None,
) -> Grade:
    """Compare a model's answer with its gold.

    `kind` is the gold's kind where the dataset knows it (else `answer_kind`); `choices` the texts of the options in
    order;
    `tolerance` an absolute error for numbers (OlympiadBench's `error`), replacing the one that the gold's digits imply;
    `unit` the unit of a gold that is written without it; `timeout_seconds` and `processor_seconds` (0: none) limit the
    symbolic layer (`GraderPool.compare`). Never raises; see `Grade` for what comes back.
    """
    first = _settle(pred, gold, kind, choices, tolerance=tolerance, unit=unit)
    if isinstance(first, Grade):
        return first
    settled = (pool or default_pool()).compare(first.gold, first.pred, timeout_seconds, processor_seconds)
    return _finish(first, settled)


def grade_output(output: str, gold: str, **options: Any) -> Grade:
    """Extract the final answer of a whole model output and grade it; options as in `grade`."""
    found = extract_answer(output)
    if found.answer is None:
        kind = options.get("kind") or answer_kind(gold, options.get("choices"))
        return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", type_match=False, exact=False)
    return grade(found.answer, gold, **options)


def grade_many(pairs: Iterable[Mapping[str, Any] | Sequence[str]], pool: GraderPool | None = None) -> list[Grade]:
    """Grade pairs, each `(pred, gold)` or a mapping with `pred`, `gold` and options of `grade`.

    Symbolic pairs run in parallel. The workers load (some seconds each, once per process) beside the pairs that need
    none, as many as the symbolic pairs are worth, and no pair's deadline pays for it.
    """
    arguments: list[dict[str, Any]] = [
        dict(p) if isinstance(p, Mapping) else {"pred": p[0], "gold": p[1]} for p in pairs
    ]
    deadlines = [float(a.pop("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)) for a in arguments]
    workers = pool or default_pool()
    first: list[Grade | _Pending] = []
    with ThreadPoolExecutor(1) as loading:
        pending = 0
        for a in arguments:
            options = {"tolerance": a.get("tolerance"), "unit": a.get("unit")}
            first.append(_settle(a["pred"], a["gold"], a.get("kind"), a.get("choices"), **options))
            if isinstance(first[-1], _Pending):
                pending += 1
                if pending % PAIRS_PER_WORKER == 1 and pending <= PAIRS_PER_WORKER * workers.workers:
                    loading.submit(workers.warm_up, workers=pending // PAIRS_PER_WORKER + 1)
    used = min(workers.workers, -(-pending // PAIRS_PER_WORKER))

    def finish(item: _Pending, seconds: float) -> Grade:
        settled = workers.compare(item.gold, item.pred, seconds)
        if settled is Settlement.TIMEOUT and used == 1:
            with contextlib.suppress(OSError):  # the one worker was replaced: the next pair must not pay for loading
                workers.warm_up(workers=1)
        return _finish(item, settled)

    with ThreadPoolExecutor(max(used, 1)) as threads:
        waiting = {
            i: threads.submit(finish, item, deadlines[i]) for i, item in enumerate(first) if isinstance(item, _Pending)
        }
        return [item if isinstance(item, Grade) else waiting[i].result() for i, item in enumerate(first)]


def _finish(pending: _Pending, settled: Settlement) -> Grade:
    verdict = {
        Settlement.SAME: Verdict.CORRECT,
        Settlement.DIFFERENT: Verdict.WRONG,
        Settlement.UNREAD_GOLD: Verdict.UNPARSABLE_GOLD,
        Settlement.UNREAD_ANSWER: Verdict.UNPARSABLE_ANSWER,
        Settlement.TIMEOUT: Verdict.TIMEOUT,
        Settlement.FAILED: Verdict.UNDECIDED,
    }[settled]
    same = verdict is Verdict.CORRECT
    return Grade(verdict, pending.kind, "symbolic", pending.type_match or same, same)


def _settle(
    pred: str,
    gold: str,
    kind: str | None,
    choices: Sequence[str] | None,
    *,
    tolerance: float | None = None,
    unit: str | None = None,
) -> Grade | _Pending:
    """All layers of this process; a `_Pending` where only symbols remain."""
    if not isinstance(gold, str) or not _well_formed(gold):
        return Grade(Verdict.UNPARSABLE_GOLD, kind or "text", "none", type_match=False, exact=False)
    choices = [str(c) for c in choices] if choices else None
    gold = gold_answer(gold, choices).answer or gold
    known = kind or answer_kind(gold, choices)
    if isinstance(pred, str) and "\\boxed" in pred and len(pred) <= MAX_TEXT_CHARACTERS:
        found = extract_answer(pred)
        if found.boxes:  # a sentence around one box; several boxes are no answer
            pred = found.answer or "" if found.boxes == 1 else ""
    if (
        not isinstance(pred, str)
        or len(pred) > MAX_TEXT_CHARACTERS
        or "\x00" in pred
        or not _HAS_CONTENT.search(strip_wrappers(pred))
    ):
        return Grade(Verdict.UNPARSABLE_ANSWER, known, "none", type_match=False, exact=False)
    if choices or known == "choice":
        settled = _grade_choice(pred, gold, known, choices)
        if settled is not None:
            return settled
    return _grade_plain(pred, gold, known, tolerance, unit)


def _decide(correct: bool, kind: str, layer: str, type_match: bool) -> Grade:
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, kind, layer, type_match or correct, correct)


def _grade_choice(pred: str, gold: str, kind: str, choices: list[str] | None) -> Grade | None:
    """Letters, and the text of the options.

    None where the gold is no letter and no option: then the plain rules compare.
    """
    if (
        choices
        and gold.strip() in choices
        and pred.strip() in choices
        and not (len(gold.strip()) == 1 and gold.strip().isupper())
    ):
        return _decide(pred.strip() == gold.strip(), kind, "choice", type_match=True)  # options such as "(b)", shuffled
    right = _gold_letters(gold, choices)
    if right is None:
        return None
    named = letters_in(pred)
    texts = _option_letters(pred, choices) if choices else frozenset()
    if choices and named is not None and len(named[0]) > len(right) == 1 and squash(pred) in map(squash, choices):
        named = None  # segments and angles: "AB" is the text of one option, not two options
    if named is not None and (not choices or all(ord(c) - 65 < max(len(choices), 1) for c in named[0])):
        contradicted = bool(named[1]) and choices is not None and _contradicts(named[1], named[0], choices)
        return _decide(named[0] == right and not contradicted, kind, "choice", type_match=True)
    if choices and texts:
        return _decide(texts == right, kind, "choice", type_match=True)
    if choices is None and named is not None:
        return _decide(False, kind, "choice", type_match=True)
    readable = choices is not None and _grade_text_like(pred)
    return Grade(
        Verdict.WRONG if readable else Verdict.UNPARSABLE_ANSWER, kind, "choice", type_match=False, exact=False
    )


def _grade_text_like(pred: str) -> bool:
    """Whether an answer to a choice question at least says something definite (a value or words)."""
    return read(pred) is not None or any(c.isalpha() for c in pred)


def _gold_letters(gold: str, choices: list[str] | None) -> frozenset[str] | None:
    """The letters that the gold stands for: its own, or those of the option whose text it is."""
    if choices:
        wanted = normalise(gold)
        same = [i for i, text in enumerate(choices) if text == gold or normalise(text) == wanted]
        if same and not (len(wanted) == 1 and wanted in "ABCDEFGHIJ"):
            return frozenset(chr(65 + same[0]))
    named = letters_in(gold)
    return named[0] if named is not None and (not named[1] or choices) else None


def _option_letters(pred: str, choices: list[str]) -> frozenset[str]:
    """The one option whose text the answer gives; empty when none or several fit."""
    wanted = squash(pred)
    exact = [i for i, text in enumerate(choices) if squash(text) == wanted]
    fitting = exact or [i for i, text in enumerate(choices) if _fits(pred, text)]
    return (
        frozenset(chr(65 + fitting[0]))
        if len(fitting) == 1 or (exact and len(set(map(squash, choices))) < len(choices))
        else frozenset()
    )


def _fits(pred: str, option: str) -> bool:
    settled = _grade_plain(pred, option, "text", None, None)
    return isinstance(settled, Grade) and settled.correct


def _contradicts(content: str, letters: frozenset[str], choices: list[str]) -> bool:
    """Whether the words after the letter are the text of another option."""
    given = _option_letters(content, choices)
    return bool(given) and given != letters


def _grade_plain(pred: str, gold: str, kind: str, tolerance: float | None, unit: str | None) -> Grade | _Pending:  # noqa: C901, PLR0911, PLR0912
    """Exact text, truth words, mathematics, plain text, in this order."""
    if squash(pred) == squash(gold):
        return _decide(True, kind, "exact", type_match=True)
    if is_truth_word(gold):
        answer = truth_of(pred)
        if answer is None:
            return Grade(
                Verdict.WRONG if any(c.isalpha() for c in pred) else Verdict.UNPARSABLE_ANSWER,
                kind,
                "text",
                False,
                False,
            )
        return _decide(answer == truth_of(gold), kind, "text", type_match=True)
    if unit and _is_said_as_stated(pred, gold, unit, tolerance):
        return _decide(True, kind, "number", type_match=True)
    mine, theirs = _readings(pred, gold, unit)
    if mine is not None and theirs is not None:
        result = compare(mine, theirs, tolerance)
        if not result and bool(_GROUPED.search(gold)) != bool(_GROUPED.search(pred)):
            result = _compare_ungrouped(pred, gold, tolerance) or result
        matches = _same_type(mine, theirs)
        if result is not None:
            return _decide(result, kind, _layer(mine, theirs), matches)
        return _symbolic(pred, gold, kind, matches)
    if same_text(gold, pred):
        return _decide(True, kind, "text", type_match=True)
    if len(_PLAIN_WORD.findall(gold)) > 2:
        return _decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and "=" in pred and "=" not in gold and not _sides_may_name(pred, gold):
        return _decide(False, kind, "structure", type_match=False)
    if (
        _SYMBOLIC.search(gold)
        and (theirs is not None or _SYMBOLIC.search(pred))
        and len(gold) + len(pred) < MAX_CHARACTERS
    ):
        return _symbolic(pred, gold, kind, type_match=False)
    if mine is None:
        return _decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and _SYMBOLIC.search(pred) and len(pred) < MAX_CHARACTERS and mine.unit is None:
        return _symbolic(pred, gold, kind, type_match=False)
    return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", type_match=False, exact=False)


def _is_said_as_stated(pred: str, gold: str, unit: str, tolerance: float | None) -> bool:
    """Whether an answer is the gold with its stated unit spelled, or without a stated multiplier (14 of "million")."""
    mine, bare = read(gold), read(without_stated_unit(pred, unit))
    if mine is None or bare is None or bare.unit is not None:
        return False
    return (bare != read(pred) or is_multiplier(unit)) and bool(compare(mine, bare, tolerance))


def _readings(pred: str, gold: str, unit: str | None) -> tuple[Reading | None, Reading | None]:
    """The gold and the answer as mathematics, numbers said in words included where the other side bears them out."""
    mine = _read_gold(gold, unit)
    theirs = read(pred) or read(without_prose(pred))
    if mine is not None and mine.form == "value":
        return mine, _said_in_words(pred) or theirs
    if mine is None and theirs is not None and theirs.unit is not None:
        said = _said_in_words(gold)
        return (said if said is not None and said.unit == theirs.unit else None), theirs
    return mine, theirs


def _said_in_words(text: str) -> Reading | None:
    """`five apples` and `2 and 1/2` as a value; None for anything else.

    Only beside a value: "seven seas" is a name, and "2 and 1/2" beside a list is two answers.
    """
    if len(text) > MAX_WORDS_CHARACTERS:
        return None
    s = normalise(text)
    if match := _AND_FRACTION.match(s):
        whole, top, bottom = match.group(1), match.group(2) or match.group(4), match.group(3) or match.group(5)
        return read(f"{whole} {top}/{bottom}") if int(top) < int(bottom) else None
    word, _, thing = s.partition(" ")
    digits = NUMBER_WORDS.get(word.lower(), "")
    reading = read(f"{digits} {thing}") if digits.isdigit() and thing[:1].isalpha() else None
    return reading if reading is not None and reading.form == "value" and reading.unit is not None else None


def _compare_ungrouped(pred: str, gold: str, tolerance: float | None) -> bool | None:
    """The other reading of `100,200`: a list instead of one number with thousands."""
    mine, theirs = read(gold, merge_thousands=False), read(pred, merge_thousands=False)
    return compare(mine, theirs, tolerance) if mine is not None and theirs is not None else None


def _sides_may_name(pred: str, gold: str) -> bool:
    """Whether what stands before the first equals sign may name the answer: the gold itself, or letters only.

    math-verify takes the last side of a chain, so that `1 = 1/3` would be a third.
    """
    first = squash(pred.partition("=")[0])
    return first == squash(gold) or not any(c.isdigit() for c in first)


def _read_gold(gold: str, unit: str | None) -> Reading | None:
    reading = read(gold) or read(without_hedge(gold))
    return with_stated_unit(reading, unit) if reading is not None and unit else reading


def _symbolic(pred: str, gold: str, kind: str, type_match: bool) -> Grade | _Pending:
    """The pair for math-verify, which takes one formula out of each text and leaves the rest unread.

    So several formulas, prose of another script and a denial are refused here.
    """
    mine, theirs = normalise(gold), normalise(pred)
    whole = not (_SEVERAL_FORMULAS.search(mine) or _SEVERAL_FORMULAS.search(theirs))
    if not whole or denies(theirs) != denies(mine):
        return _decide(False, kind, "structure", type_match)
    return _Pending(mine, theirs, kind, type_match)


def _layer(gold: Reading, pred: Reading) -> str:
    """Which of the cheap layers a decision belongs to, for the published shares."""
    if gold.form == pred.form == "value":
        return (
            "number"
            if gold.style not in ("expression", "complex") and pred.style not in ("expression", "complex")
            else "numeric"
        )
    return "structure"


def _same_type(gold: Reading, pred: Reading) -> bool:
    """Whether the answer is of the gold's family; units do not count, a fraction is a decimal's family (facts)."""
    return kind_family(reading_kind(replace(gold, unit=None))) == kind_family(reading_kind(replace(pred, unit=None)))
