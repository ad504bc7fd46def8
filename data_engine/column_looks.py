"""What columns tell about a batch of records of the source `table`, without making rows of them.

Input: a `Batch` and the columns by role. Output: `Looks`: which questions are plain, golds with their kinds where these
need no grader, options and answers beside them. Whatever is not plain here is judged record by record (`screening`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.gold_kinds import CHOICE, UNSURE, plain_kinds
from data_engine.sources.arrow_texts import arrow, series, spread
from data_engine.sources.conversations import first_exchange, plain_pairs
from data_engine.sources.given_answers import BEHIND_HASHES, CLOSING_SENTENCE, OPTION_PLACE
from data_engine.tally import list_hashes, texts
from data_engine.text_flags import TextFlags, text_flags
from shared.image_tags import IMAGE_TAG
from shared.option_lists import LETTERS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.sources.table_files import Batch

NOTES = ("", BEHIND_HASHES, CLOSING_SENTENCE, OPTION_PLACE)
_ODD = r"[\x0c\x00]|!\[|\[[Ii][Mm][Gg]\]|<\s*(?:\||[Ii][Mm]|[Ss][Tt][Aa]|[Pp][Ii][Cc])"
"""What `image_tags`, `model_tokens` and `mend_text` look for."""
_HEADED = r"^\s*\(?[A-Ha-h]\s*[).:：、．]"
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
        spaced: The question may hold more blanks than single ones between words.
        lists: The question may list options.
        optional: The record has options of their own.
        told: Options are plain and the answer is a letter or place among them.
        mixed: Hashes of such options; 0 elsewhere. None where no record has options.
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
    told: Flags
    mixed: Flags | None = None
    options: dict[int, list[str]] = field(default_factory=dict)


def look(batch: Batch, start: int, names: Mapping[str, str], *, talks: bool, first: int | None) -> Looks:
    """Look at a batch whose first record is number `start`; `names` are columns by role.

    `talks`: the questions stand in conversations. `first`: the number of the first option where answers are places of
    options.
    """
    if talks:
        answers, (asked, said, flags) = None, _exchanges(batch, names["question"])
    else:
        column = batch.texts(names["question"])
        answers = batch.texts(names["answer"], numbers=True)
        asked, said, flags = series(column), series(answers), text_flags(column)
    size = len(batch)
    plain = ~flags.empty & said.is_not_null().to_numpy()
    doubtful = np.flatnonzero(plain & (flags.marked | flags.edged))
    if len(doubtful):
        rest = asked.gather(doubtful)
        rest = rest.str.replace_all(IMAGE_TAG, "", literal=True) if names["images"] else rest
        plain[doubtful] = ~(rest.str.contains(_ODD) | (rest.str.strip_chars() == "")).to_numpy()
    none = np.zeros(size, dtype=bool)
    looks = Looks(
        _keys(batch, names["id"], start), asked, said, said, np.zeros(size, dtype=np.int8),
        np.full(size, UNSURE, dtype=np.int8), plain, flags.spaced, flags.lists, none, none,
    )  # fmt: skip
    if names["choices"]:
        _options(batch, names["choices"], looks, first)
    _golds(looks, answers)
    return looks


def _keys(batch: Batch, name: str, start: int) -> pl.Series:
    import polars as pl

    column = batch.texts(name, numbers=True)
    _, starts, ends = spread(column)
    given = starts < ends
    keys = series(column)
    if given.all():
        return keys
    return keys.zip_with(pl.Series(given), pl.Series(np.arange(start, start + len(batch))).cast(pl.String))


def _exchanges(batch: Batch, name: str) -> tuple[pl.Series, pl.Series, TextFlags]:
    """Questions and answers of conversations, null for what is no plain one, and signs of the questions."""
    column = batch.arrow(name)
    pairs = None if column is None else plain_pairs(column)
    if pairs is None:
        talks = [first_exchange(value) for value in batch.values(name)]
        whole = [t if t and not t.images and not t.later and t.answer is not None else None for t in talks]
        asked = texts([t and t.question for t in whole])  # type: ignore[misc]
        return asked, texts([t and t.answer for t in whole]), text_flags(arrow(asked))  # type: ignore[misc]
    messages, places = pairs
    plain = places >= 0
    held = series(messages)
    signs = text_flags(messages)
    asked, said = (_at(held, np.where(plain, places + turn, 0), plain) for turn in (0, 1))
    at = np.where(plain, places, 0)
    empty, *others = (
        part[at] if len(part) else ~plain
        for part in (signs.empty, signs.marked, signs.spaced, signs.edged, signs.lists)
    )
    return asked, said, TextFlags(empty | ~plain, *others)


def _at(values: pl.Series, places: Flags, there: Flags) -> pl.Series:
    """Values at some places; null where they are not `there`."""
    import polars as pl

    if not there.any():
        return pl.Series([None] * len(places), dtype=pl.String)
    found = values.gather(places)
    return found if there.all() else found.zip_with(pl.Series(there), pl.Series([None], dtype=pl.String))


def _golds(looks: Looks, column: pa.Array | None) -> None:
    """Find golds, notes and kinds of records whose options do not tell them; `column` holds `looks.raw` for Arrow."""
    import polars as pl

    others = np.flatnonzero(~looks.told & looks.raw.is_not_null().to_numpy())
    rest = looks.raw if len(others) == len(looks.raw) else looks.raw.gather(others)
    common = len(rest) > 0 and str(rest[0]).startswith(_COMMON) and rest.str.starts_with(_COMMON).all()
    if common:  # a quarter of the time; what else stands there is no plain answer
        marked = rest.str.strip_prefix(_COMMON).str.strip_suffix(".")
        _take_marked(looks, others, marked, np.full(len(others), 2))
        return
    looks.kinds[others] = found = plain_kinds(rest, column if rest is looks.raw else None)
    if not len(places := np.flatnonzero(found == UNSURE)):
        return
    others, rest = others[places], rest.gather(places)
    hashed, sentences = (rest.str.contains(sign, literal=True) for sign in ("####", "nswer"))
    if hashed.any() or sentences.any():
        raw = pl.col("raw")
        marks = pl.DataFrame({"raw": rest}).select(
            behind=pl.when(hashed).then(raw.str.extract(_HASHES)) if hashed.any() else pl.lit(None, pl.String),
            closing=pl.when(sentences).then(raw.str.extract(_SENTENCE)),
        )
        notes = np.where(marks["behind"].is_not_null().to_numpy(), 1, 2)
        _take_marked(looks, others, marks.select(pl.coalesce("behind", "closing")).to_series(), notes)


def _take_marked(looks: Looks, places: Flags, marked: pl.Series, notes: Flags) -> None:
    """Take the answers that marks point to where these are plain."""
    import polars as pl

    found = plain_kinds(marked)
    sure = found != UNSURE
    looks.notes[places[sure]] = notes[sure]
    looks.kinds[places[sure]] = found[sure]
    looks.answers = _with(looks.answers, places[sure], marked.filter(pl.Series(sure)))


def _with(values: pl.Series, places: Flags, others: pl.Series) -> pl.Series:
    """Values with others at some places."""
    return others if len(places) == len(values) else values.clone().scatter(places, others)


def _options(batch: Batch, name: str, looks: Looks, first: int | None) -> None:
    """Look at options: `optional`, `told`, `mixed` and `options`, and the golds that they decide."""
    import polars as pl

    lists = batch.lists(name)
    if lists is None:
        values: list[Any] = batch.values(name)
        looks.optional = np.array([bool(value) for value in values])
    else:
        column, starts, sizes = lists
        listed = series(column)
        looks.optional = sizes > 0
        codes, begins, ends = spread(arrow(looks.raw))
        place = np.where(ends - begins == 1, codes[np.minimum(begins, len(codes) - 1)] if len(codes) else 0, 0)
        place = place.astype(np.int64) - (ord("A") if first is None else ord("0") + first)
        told = (sizes > 1) & (sizes <= _MOST_OPTIONS) & (place >= 0) & (place < sizes)
        told &= place < (_MOST_OPTIONS if first is None else 10 - first)
        told &= ~_holding(_poor_options(column, listed), starts, sizes)
        looks.told = told
        chosen = np.flatnonzero(told)
        looks.mixed = np.zeros(len(told), dtype=np.uint64)
        looks.mixed[chosen] = list_hashes(listed, starts[chosen], sizes[chosen])
        letters = pl.Series(list(LETTERS), dtype=pl.String).gather(place[chosen])
        looks.answers = _with(looks.answers, chosen, letters)
        looks.kinds[chosen] = CHOICE
        looks.notes[chosen] = 0 if first is None else NOTES.index(OPTION_PLACE)
        values = [None] * len(batch)
        for spot in np.flatnonzero(looks.optional & ~told).tolist():
            values[spot] = column[starts[spot] : starts[spot] + sizes[spot]].to_pylist()
    for spot, value in enumerate(values):
        if value:
            # One text may hold all options, a mark between them.
            good_one = isinstance(value, list) and len(value) > 1
            good_one = good_one and all(isinstance(one, str) and one.strip() and "<" not in one for one in value)
            looks.plain[spot] &= good_one
            looks.options[spot] = value if good_one else []


def _poor_options(options: pa.Array, listed: pl.Series) -> Flags:
    """Which options need a closer look: tags, letters in front, blanks around them, no text."""
    signs = text_flags(options)
    codes, starts, _ = spread(options)
    poor = signs.empty | signs.marked | signs.edged
    if len(codes):
        ahead = codes[np.minimum(starts, len(codes) - 1)] | ord(" ")
        headed = np.flatnonzero(((ahead >= ord("a")) & (ahead <= ord("h"))) | (ahead == ord("(")))
        poor[headed] |= listed.gather(headed).str.contains(_HEADED).fill_null(value=True).to_numpy()
    return poor


def _holding(signs: Flags, starts: Flags, sizes: Flags) -> Flags:
    """Which lists hold one of the texts with a sign."""
    found = np.zeros(len(sizes), dtype=bool)
    places = np.flatnonzero(signs)
    if len(places) and len(sizes):
        held = np.searchsorted(starts, places, side="right") - 1
        inside = (held >= 0) & (places < starts[held] + sizes[held])
        found[held[inside]] = True
    return found
