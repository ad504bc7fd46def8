"""Grades one answer against its gold: cheap layers in this process, symbols in the worker pool.

`grade_output` says what a whole output is worth, `grade` what an answer is: rewards, evaluation and `trainer grade` all
end here. Order of work: exact after normalisation; choices, truth words and text by their own rules; mathematics by
exact rational and 60-digit arithmetic over structures (`reading`, `compare`); and only what those cannot settle by
math-verify in `pool`. No function here raises on any pair of strings, and the wall time of one pair is bounded by its
deadline plus half a second.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from shared.answers.compare.choices import grade_choice
from shared.answers.compare.plain import grade_plain
from shared.answers.labels import options_of
from shared.answers.parse.answer import HAS_CONTENT, MAX_TEXT_CHARACTERS, Answer, answer_kind, well_formed
from shared.answers.parse.extract import boxed_contents
from shared.answers.parse.final import final_answer
from shared.answers.parse.golds import gold_answer
from shared.answers.parse.normalise import strip_wrappers
from shared.answers.symbolic.pool import GraderPool, default_pool
from shared.answers.types import Deferred, Extracted, Grade, Pending, Settlement, State, Verdict
from shared.code_points import carried

DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of one pair in the symbolic layer, waiting for a worker included."""

PAIRS_PER_WORKER = 32
"""Symbolic pairs for which another worker is loaded: loading takes the CPU time of some 700 pairs, but a pair
may also take all of its deadline, and then a second worker saves as much wall time."""

MOST_ANSWERS = 24
"""Lists with more answers than this are compared as a whole only: matching each with each would cost too much."""


def grade(
    gold: str,
    pred: str,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    processor_seconds: float = 0.0,
    pool: GraderPool | None = None,
    **options: Any,
) -> Grade:
    """Compare a model's answer with its gold.

    `options`: `kind` is the gold's kind where the dataset knows it (else `answer_kind`); `choices` the texts of the
    options in order; `tolerance` an absolute error for numbers (OlympiadBench's `error`), replacing the one that the
    gold's digits imply; `unit` the unit of a gold that is written without it; `several` says that the gold lists
    several answers in any order. `timeout_seconds` and `processor_seconds` (0: none) limit the symbolic layer
    (`GraderPool.compare`). Never raises on strings; see `Grade` for what comes back.
    """
    ask = partial(_asked, pool=pool, timeout_seconds=timeout_seconds, processor_seconds=processor_seconds)
    return _resolved(_settle(gold, pred, **options), ask)


def grade_output(
    gold: str,
    output: str | Extracted,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    pool: GraderPool | None = None,
    **options: Any,
) -> Grade:
    """What a whole model output, or what `final_answer` found in it, is worth; options as in `grade`.

    An output that answers in several ways is right only if none of them is wrong. Several different boxes are right
    where each is, or where they are the gold's several answers together.
    """
    ask = partial(_asked, pool=pool, timeout_seconds=timeout_seconds, processor_seconds=0.0)
    return _resolved(_settle_output(gold, output, **options), ask)


def grade_many(pairs: Iterable[Mapping[str, Any] | Sequence[str]], pool: GraderPool | None = None) -> list[Grade]:
    """Grade pairs, each `(gold, pred)` or a mapping with `gold`, options of `grade`, and `pred` or `output`.

    Symbolic pairs run in parallel. The workers load (some seconds each, once per process) beside the pairs that need
    none, as many as the symbolic pairs are worth, and no pair's deadline pays for it.
    """
    rows: list[Mapping[str, Any]] = [p if isinstance(p, Mapping) else {"gold": p[0], "pred": p[1]} for p in pairs]
    workers = pool or default_pool()
    first: list[State] = []
    with ThreadPoolExecutor(1) as loading:
        pending = 0
        for row in rows:
            settle = _settle_output if "output" in row else _settle
            first.append(settle(row["gold"], row["output"] if "output" in row else row["pred"], **options_of(row)))
            before, pending = pending, pending + _pending_in(first[-1])
            for _ in range(before // PAIRS_PER_WORKER, -(-pending // PAIRS_PER_WORKER)):
                loading.submit(workers.warm_up, workers=min(workers.workers, -(-pending // PAIRS_PER_WORKER)))
    used = min(workers.workers, -(-pending // PAIRS_PER_WORKER))

    def asked(item: Pending, seconds: float) -> Grade:
        settled = workers.compare(item.gold, item.pred, seconds)
        if settled is Settlement.TIMEOUT and used == 1:
            with contextlib.suppress(OSError):  # the one worker was replaced: the next pair must not pay for loading
                workers.warm_up(workers=1)
        return _finish(item, settled)

    with ThreadPoolExecutor(max(used, 1)) as threads:
        waiting = {
            i: threads.submit(
                _resolved, state, partial(asked, seconds=float(rows[i].get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)))
            )
            for i, state in enumerate(first)
            if not isinstance(state, Grade)
        }
        return [state if isinstance(state, Grade) else waiting[i].result() for i, state in enumerate(first)]


def _pending_in(state: State) -> int:
    if isinstance(state, Deferred):
        return sum(map(_pending_in, state.states))
    return int(isinstance(state, Pending))


def _resolved(state: State, ask: Callable[[Pending], Grade]) -> Grade:
    """The grade of a state, symbolic pairs asked by `ask`."""
    if isinstance(state, Deferred):
        return state.decide([_resolved(one, ask) for one in state.states])
    return ask(state) if isinstance(state, Pending) else state


def _asked(item: Pending, pool: GraderPool | None, timeout_seconds: float, processor_seconds: float) -> Grade:
    return _finish(item, (pool or default_pool()).compare(item.gold, item.pred, timeout_seconds, processor_seconds))


def _finish(pending: Pending, settled: Settlement) -> Grade:
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
    gold: str,
    pred: str,
    kind: str | None = None,
    choices: Sequence[str] | None = None,
    *,
    tolerance: float | None = None,
    unit: str | None = None,
    several: bool = False,
) -> State:
    """All layers of this process for one answer; what is not settled is left to the symbolic layer."""
    if not isinstance(gold, str) or not well_formed(gold := carried(gold)):
        return Grade(Verdict.UNPARSABLE_GOLD, kind or "text", "none", type_match=False, exact=False)
    pred = carried(pred) if isinstance(pred, str) else pred  # as files carry it: graded before and after alike
    choices = [carried(str(c)) for c in choices] if choices else None
    gold = gold_answer(gold, choices).answer or gold
    known = kind or answer_kind(gold, choices)
    if isinstance(pred, str) and "box" in pred and len(pred) <= MAX_TEXT_CHARACTERS and boxed_contents(pred):
        options = {"tolerance": tolerance, "unit": unit, "several": several}
        return _settle_output(gold, pred, kind=known, choices=choices, **options)  # a sentence around a box
    if not isinstance(pred, str) or len(pred) > MAX_TEXT_CHARACTERS or not HAS_CONTENT.search(strip_wrappers(pred)):
        return Grade(Verdict.UNPARSABLE_ANSWER, known, "none", type_match=False, exact=False)
    mine, theirs = Answer(gold), Answer(pred)
    if choices or known == "choice":
        settled = grade_choice(mine, theirs, known, choices)
        if settled is not None:
            return settled
    whole = grade_plain(mine, theirs, known, tolerance, unit)
    return _part_by_part(whole, gold, pred, known, tolerance) if several else whole


def _part_by_part(whole: State, gold: str, pred: str, kind: str, tolerance: float | None) -> State:
    """Several answers in any order: as a whole, or each part matched with one of the gold's, none missing or extra."""
    parts, golds = split_answers(pred), split_answers(gold)
    if len(parts) != len(golds) or not 1 < len(golds) <= MOST_ANSWERS:
        return whole
    size = len(golds)
    sides = [Answer(one) for one in golds]
    each = tuple(
        grade_plain(one, part, answer_kind(one.text), tolerance, None) for part in map(Answer, parts) for one in sides
    )

    def decided(grades: list[Grade]) -> Grade:
        first, fits = grades[0], [grade.correct for grade in grades[1:]]
        if first.correct or not perfect_match([fits[row * size : (row + 1) * size] for row in range(size)]):
            return first
        return Grade(Verdict.CORRECT, kind, "parts", type_match=True, exact=True)

    return Deferred((whole, *each), decided)


def perfect_match(fits: Sequence[Sequence[bool]]) -> bool:
    """Whether every row can take a column of its own (augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def split_answers(text: str) -> list[str]:
    r"""Parts of a list of answers: split at commas, semicolons and `and` outside brackets; `\pm` becomes two parts.

    A comma between three digits stays (`1,000`) where no dollar sign ends a formula there.
    """
    text = re.sub(r"\$\s*,\s*\$", "; ", text.strip()).replace("$", " ")
    text = re.sub(r"\\text\s*\{\s*(?:and|or|,)\s*\}|\s(?:and|or)\s", "; ", text)
    parts: list[str] = []
    depth, start = 0, 0
    for index, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and (char == ";" or (char in ",，、" and text[max(index - 1, 0)] != "\\")):
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    parts = [part.strip().strip(".").strip() for part in parts]
    signed = (
        [part.replace(r"\pm", "", 1), part.replace(r"\pm", "-", 1)] if r"\pm" in part else [part] for part in parts
    )
    return [part.strip() for group in signed for part in group if part.strip()]


def _settle_output(gold: str, output: str | Extracted, **options: Any) -> State:
    """All layers of this process for one output."""
    found = final_answer(output) if isinstance(output, str) else output
    if not isinstance(found, Extracted) or found.answer is None:
        kind = options.get("kind") or answer_kind(gold, options.get("choices")) if isinstance(gold, str) else "text"
        return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", type_match=False, exact=False)
    if len(found.contents) == 1 and not found.others:
        return _settle(gold, found.contents[0], **options)
    together = [", ".join(found.contents)] if len(found.contents) > 1 else []
    texts = (*found.contents, *together, *found.others)
    decided = partial(_without_contradiction, len(found.contents), len(together))
    return Deferred(tuple(_settle(gold, text, **options) for text in texts), decided)


def _without_contradiction(contents: int, together: int, grades: list[Grade]) -> Grade:
    """The grade of an output by those of its contents, of these as one list, and of what it states in other forms."""
    own, joined, others = grades[:contents], grades[contents : contents + together], grades[contents + together :]
    whole = [own[-1]] if all(grade.correct for grade in own) else joined
    if not whole:
        return own[-1]
    if whole[0].correct and all(other.verdict is not Verdict.WRONG for other in others):
        return whole[0]
    return Grade(Verdict.WRONG, own[-1].kind, "contradiction", own[-1].type_match, exact=False)
