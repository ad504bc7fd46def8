"""What columns tell about a batch of records of the source `table`, without making rows of them.

Input: a `Batch` and the columns by role. Output: `Looks`: which questions are plain, golds with their kinds where these
need no grader, options and answers beside them. Whatever is not plain here is judged record by record (`screening`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.sources.conversations import first_exchange, plain_pairs
from data_engine.sources.given_answers import BEHIND_HASHES, CLOSING_SENTENCE, OPTION_PLACE
from data_engine.tally import texts
from shared.answers import ANSWER_KINDS
from shared.image_tags import IMAGE_TAG
from shared.option_lists import LETTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from data_engine.sources.table_files import Batch

PLAIN_KINDS = {
    r"-?[0-9]{1,15}": "integer",
    r"-?[0-9]{1,12}\.[0-9]{1,12}": "decimal",
    r"-?\\frac\{[0-9]{1,9}\}\{[0-9]{1,9}\}|-?[0-9]{1,9}/[0-9]{1,9}": "fraction",
    r"[A-J]": "choice",
}
"""Golds whose kind needs no grader (a test holds them to it)."""
CHOICE = ANSWER_KINDS.index("choice")
UNSURE, OPEN = -2, -3
"""In place of a kind: an answer to be looked at with `final_answer_of`, one that stands as it is, of any kind."""
NOTES = ("", BEHIND_HASHES, CLOSING_SENTENCE, OPTION_PLACE)
_INTEGER = next(iter(PLAIN_KINDS))
_LISTS = [f"{letter}{gap}{mark}" for letter in "Aa" for gap in ("", " ", "\n") for mark in ").:：、．）"]
"""One of these stands wherever `MAY_LIST` finds something (two blanks between are no public set's)."""
_HEADED = r"(^|\x1f)\s*\(?[A-Ha-h]\s*[).:：、．]"
_EDGED = r"(^|\x1f)(\s|\x1f|$)|\s(\x1f|$)"
_SIMPLE = r"^[-+0-9A-Za-z.,/^*(){}\\_ ]*[0-9][-+0-9A-Za-z.,/^*(){}\\_ ]*$"
"""With no word of four letters besides commands: an answer as it stands, whatever its kind."""
_HASHES = r"####[ \t]*([^\n#]+?)\s*$"
_SENTENCE = r"^\s*(?:[Tt]he\s+)?(?:[Ff]inal\s+|[Cc]orrect\s+)?[Aa]nswer\s*(?:is|:)\s*([^\n]{1,60}?)\s*\.?\s*$"
"""Marks of an answer that `final_answer_of` knows, where they are all there is to a plain answer."""
_COMMON = "The answer is "
_MOST_OPTIONS = 8
Flags = np.ndarray[Any, Any]


@dataclass
class Looks:
    """One entry per record in each.

    Attributes:
        keys: Ids as texts; the record's place where it has none.
        questions: Words asked, as they stand.
        raw: Values of the answer column as texts.
        answers: Golds where they are told by the columns, else as `raw`.
        notes: How a gold was found: a place in `NOTES`.
        kinds: Place in `ANSWER_KINDS`, `OPEN` or `UNSURE`.
        plain: Question and answer are texts and the question holds nothing odd.
        spaced: The question holds more blanks than single ones between words.
        lists: The question may list options.
        optional: The record has options of their own.
        joined: Options that are plain, joined, beside a letter or place among them as answer; null elsewhere.
        options: Options of other records, by place.

    """

    keys: pl.Series
    questions: pl.Series
    raw: pl.Series
    answers: pl.Series
    notes: Flags
    kinds: Flags
    plain: Flags
    spaced: Flags
    lists: Flags
    optional: Flags
    joined: pl.Series | None = None
    options: dict[int, list[str]] = field(default_factory=dict)


def look(batch: Batch, start: int, names: Mapping[str, str], *, talks: bool, first: int | None) -> Looks:
    """Look at a batch whose first record is number `start`; `names` are columns by role.

    `talks`: the questions stand in conversations. `first`: the number of the first option where answers are places of
    options.
    """
    import polars as pl

    if talks:
        asked, said = _exchanges(batch, names["question"])
    else:
        asked, said = batch.texts(names["question"]), batch.texts(names["answer"], numbers=True)
    keys = batch.texts(names["id"], numbers=True) if names["id"] else pl.Series([None] * len(batch), dtype=pl.String)
    key, question, answer = map(pl.col, "kqa")
    place = pl.int_range(start, start + len(batch)).cast(pl.String)
    # One call for all: each starts Polars' machinery.
    found = pl.DataFrame({"k": keys, "q": asked, "a": said}).select(
        pl.when((key != "").fill_null(value=False)).then(key).otherwise(place).alias("key"),
        plain=(answer.is_not_null() & _is_plain(question, tagged=bool(names["images"]))).fill_null(value=False),
        spaced=_is_spaced(question).fill_null(value=False),
        lists=question.str.contains_any(_LISTS).fill_null(value=False),
        whole=answer.str.contains(f"^{_INTEGER}$"),
    )
    answers, notes, kinds = _golds(said, found["whole"])
    plain, spaced, lists = (found[name].to_numpy(writable=True) for name in ("plain", "spaced", "lists"))
    own = np.zeros(len(batch), dtype=bool)
    looks = Looks(found["key"], asked, said, answers, notes, kinds, plain, spaced, lists, own)
    if names["choices"]:
        _options(batch, names["choices"], looks, first)
    return looks


def _exchanges(batch: Batch, name: str) -> tuple[pl.Series, pl.Series]:
    """Questions and answers of conversations; null for what is no plain one."""
    column = batch.column(name)
    pairs = None if column is None else plain_pairs(column)
    if pairs is not None:
        return pairs
    talks = [first_exchange(value) for value in batch.values(name)]
    whole = [t if t and not t.images and not t.later and t.answer is not None else None for t in talks]
    return texts([t and t.question for t in whole]), texts([t and t.answer for t in whole])  # type: ignore[misc]


def _is_plain(question: pl.Expr, *, tagged: bool) -> pl.Expr:
    """Whether a question holds words and nothing odd; `tagged`: `<image>` may stand in it."""
    rest = question.str.replace_all(IMAGE_TAG, "", literal=True) if tagged else question
    odd = (rest.str.strip_chars() == "") | rest.str.contains("<", literal=True)
    for mark in ("![", "\f", "\0"):
        odd |= question.str.contains(mark, literal=True)
    return ~(odd | question.str.contains(r"\[[Ii][Mm][Gg]\]"))


def _is_spaced(question: pl.Expr) -> pl.Expr:
    """Whether a question may hold more than single blanks between its words."""
    other = question.str.len_bytes() != question.str.len_chars()
    for blank in ("  ", "\n", "\t"):
        other |= question.str.contains(blank, literal=True)
    return other | (question.str.strip_chars() != question)


def _golds(said: pl.Series, whole: pl.Series) -> tuple[pl.Series, Flags, Flags]:
    """Answers, notes and kinds (see `Looks`); `whole`: which are whole numbers, the commonest, null for none."""
    import polars as pl

    kinds = np.full(len(said), UNSURE, dtype=np.int8)
    notes = np.zeros(len(said), dtype=np.int8)
    kinds[whole.arg_true().to_numpy()] = ANSWER_KINDS.index(PLAIN_KINDS[_INTEGER])
    others = (~whole).arg_true()
    if not len(others):
        return said, notes, kinds
    rest = said.gather(others)
    hashed, sentences = rest.str.contains("####", literal=True), rest.str.contains("nswer", literal=True)
    if hashed.any() or sentences.any():
        raw = pl.col("raw")
        closing: pl.Expr = pl.when(sentences).then(raw.str.extract(_SENTENCE))
        if rest.str.starts_with(_COMMON).all():  # a quarter of the time; what else stands there is no plain answer
            closing = raw.str.strip_prefix(_COMMON).str.strip_suffix(".")
        behind = pl.when(hashed).then(raw.str.extract(_HASHES)) if hashed.any() else pl.lit(None, pl.String)
        frame = pl.DataFrame({"raw": rest}).with_columns(behind=behind, marked=pl.coalesce(behind, closing))
        found = _plain_kinds(frame["marked"])
        sure = pl.Series(found != UNSURE)
        picked, told = others.filter(sure), frame.filter(sure)
        places = picked.to_numpy()
        notes[places] = np.where(told["behind"].is_not_null().to_numpy(), 1, 2)
        kinds[places] = found[sure.to_numpy()]
        said = told["marked"] if len(picked) == len(said) else said.clone().scatter(picked, told["marked"])
        others, rest = others.filter(~sure), rest.filter(~sure)
    kinds[others.to_numpy()] = _plain_kinds(rest)
    return said, notes, kinds


def _plain_kinds(answers: pl.Series) -> Flags:
    """Kinds of plain answers: places in `ANSWER_KINDS`, `OPEN` or `UNSURE`."""
    import polars as pl

    answer = pl.col("answer")
    kind = pl.lit(None, pl.Int8)
    for pattern, name in PLAIN_KINDS.items():
        kind = pl.when(answer.str.contains(f"^(?:{pattern})$")).then(ANSWER_KINDS.index(name)).otherwise(kind)
    found = pl.DataFrame({"answer": answers}).select(kind).to_series()
    kinds = found.fill_null(UNSURE).cast(pl.Int8).to_numpy(writable=True)
    others = (found.is_null() & answers.is_not_null()).arg_true()
    if len(others):
        simple = (
            answer.str.contains(_SIMPLE)
            & ~answer.str.contains(r"^\{|\\right|boxed")
            & ~answer.str.replace_all(r"\\[A-Za-z]+", " ").str.contains(r"[A-Za-z]{4,}")
            & (answer.str.len_chars() <= 60)
            & (answer.str.strip_chars() == answer)
        )
        as_told = pl.DataFrame({"answer": answers.gather(others)}).select(simple).to_series()
        kinds[others.filter(as_told).to_numpy()] = OPEN
    return kinds


def _options(batch: Batch, name: str, looks: Looks, first: int | None) -> None:
    """Look at options: `optional`, `joined` and `options`, and the golds that they decide."""
    import polars as pl

    lists = batch.lists(name)
    if lists is None:
        sizes = None
        values: list[Any] = batch.values(name)
        looks.optional = np.array([bool(value) for value in values])
    else:
        sizes = lists.list.len().fill_null(0)
        looks.optional = (sizes > 0).to_numpy()
        joined = lists.list.join("\x1f", ignore_nulls=False)
        frame = pl.DataFrame({"joined": joined, "size": sizes, "raw": looks.raw}).with_columns(
            # The place among the options that the answer names; null where it names none.
            place=pl.when(pl.col("raw").str.contains("^[A-H]$")).then(
                pl.col("raw").replace_strict({LETTERS[n]: n for n in range(_MOST_OPTIONS)}, default=None)
            )
            if first is None
            else pl.when(pl.col("raw").str.contains("^[0-9]$")).then(pl.col("raw").cast(pl.Int64, strict=False) - first)
        )
        text = pl.col("joined")
        good = (
            pl.col("size").is_between(2, _MOST_OPTIONS)
            & pl.col("place").is_between(0, pl.col("size") - 1)
            & ~text.str.contains("<", literal=True)
            & ~text.str.contains(_HEADED)
            & ~text.str.contains(_EDGED)
        )
        found = frame.select(good=good.fill_null(value=False), place=pl.col("place").fill_null(0).cast(pl.Int64))
        sure = found["good"]
        looks.joined = joined.zip_with(sure, pl.Series([None], dtype=pl.String))
        spots = sure.arg_true()
        letters = pl.Series(list(LETTERS), dtype=pl.String).gather(found["place"].filter(sure))
        looks.answers = looks.answers.clone().scatter(spots, letters)
        chosen = spots.to_numpy()
        looks.kinds[chosen] = CHOICE
        looks.notes[chosen] = 0 if first is None else NOTES.index(OPTION_PLACE)
        doubtful = np.flatnonzero(looks.optional & ~sure.to_numpy())
        shown = lists.gather(pl.Series(doubtful)).to_list()
        values = [None] * len(batch)
        for spot, value in zip(doubtful.tolist(), shown, strict=True):
            values[spot] = value
    for place, value in enumerate(values):
        if value:
            good_one = isinstance(value, list) and all(isinstance(one, str) and "<" not in one for one in value)
            looks.plain[place] &= good_one
            looks.options[place] = value if good_one else []
