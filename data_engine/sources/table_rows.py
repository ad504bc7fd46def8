"""One record of the source `table` as a row, or the reason why it cannot be one.

Input: a record, its place, and a `Reading` (columns by role, form of answers, where pictures lie). Output: `SourceRow`
or `Rejection`. Options that the question does not show are written into it, since a solver sees nothing else; mends are
noted in `extra`, as all readers do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow, pass_rate, plain_answer
from data_engine.sources.columns import value_at
from data_engine.sources.conversations import first_exchange, given_trace
from data_engine.sources.given_answers import Form, given_answer
from data_engine.sources.picture_values import NoPictureError, picture, picture_values
from data_engine.sources.records import OTHER_COLUMNS, FiledRecord, Record, is_short
from data_engine.sources.table_shards import KEY
from data_engine.sources.virl39k import mend_text
from shared.benchmark_golds import EXTRA_FIELDS
from shared.image_tags import IMAGE_TAG, place_tags, plain_tags, words_of
from shared.option_lists import (
    LETTERS,
    MAY_LIST,
    choices_in_question,
    format_choices,
    lettered_list,
    shows_options,
    without_letters,
)
from shared.placeholders import harmless, model_tokens

_ORIGIN = ("source", "data_source", "dataset", "origin")
UNKNOWN_RATE = -1
"""What ViRL39K writes where nothing was measured."""
_SOLUTIONS = ("solution", "rationale", "explanation", "lecture", "hint")
_EXTRA = frozenset(EXTRA_FIELDS)


@dataclass(frozen=True)
class Reading:
    """How records become rows."""

    columns: Mapping[str, tuple[str, ...]]
    form: Form
    find: Callable[..., FileImage]
    """Places a picture's name below the source's folder; of a record that has a file of its own, with its folder."""
    pictured: bool = False
    """Whether a record beside which no picture lies lacks one."""

    @cached_property
    def taken(self) -> frozenset[str]:
        """Columns that are no part of `extra`."""
        roles = (names for role, names in self.columns.items() if role != "difficulty")
        return frozenset([*_ORIGIN, *_SOLUTIONS, KEY, *(name for names in roles for name in names)])


def table_row(record: Record, position: int, reading: Reading) -> SourceRow | Rejection:  # noqa: PLR0911 - likewise
    """Turn one record into a row, or say why it cannot be one; `position` is its key where it names none."""
    if isinstance(record, str):
        return Rejection(str(position), "unreadable", str(record))
    columns = reading.columns
    source_id = next((str(v) for name in columns.get("id", ()) if (v := value_at(record, name)) not in (None, "")), "")
    source_id = source_id or str(position)
    gold = _answer_value(record, columns)
    raw = _raw(gold)
    asked = _question(record, columns["question"])
    if isinstance(asked, Rejection):
        return Rejection(source_id, asked.reason, asked.detail, "", raw)
    text, inside, notes = asked
    text, named = plain_tags(text)
    if not words_of(text):
        return Rejection(source_id, "missing_question", "the question holds no words", text, raw)
    try:
        options = choices_of([value_at(record, name) for name in columns.get("choices", ())])
    except TypeError as error:
        return Rejection(source_id, "wrong_type", str(error), text, raw)
    shown = [plain_tags(option)[0] for option in options]
    if options and not shows_options(text, len(options)):
        text = f"{text.rstrip()}\n{format_choices(shown)}"
    choices = tuple(
        harmless(option.replace(IMAGE_TAG, "").strip()) or LETTERS[place] for place, option in enumerate(shown)
    )
    given = given_answer(_lettered(gold, record, columns), choices, reading.form)
    if given.reason:
        return Rejection(source_id, given.reason, given.detail, text, raw)
    choices = choices or (choices_in_question(text, given.answer) if MAY_LIST.search(text) else ())
    try:
        images = _images(record, reading, inside or [*named])
        text, images, mend = place_tags(text.strip(), images)
    except NoPictureError as error:
        return Rejection(source_id, error.reason, error.detail, text, raw)
    except ValueError as error:
        return Rejection(source_id, "tag_image_mismatch", str(error), text, raw)
    if tokens := model_tokens(f"{text} {given.answer}"):
        return Rejection(source_id, "model_tokens", ", ".join(tokens), text, raw)
    rates = _rates(record, columns.get("difficulty", ()))
    return SourceRow(
        source_id=source_id,
        question=mend_text(text),
        answer=given.answer,
        answer_raw=raw,
        choices=choices,
        images=tuple(images),
        category=_word(record, columns.get("category", ())),
        source=_word(record, _ORIGIN),
        extra=_extra(record, reading, [*notes, *given.notes, *([mend] if mend else [])]),
        pass_rate_large=rates[0],
        pass_rate_small=rates[1],
    )


def _finder(record: Record, reading: Reading) -> Callable[[str], FileImage]:
    """What places names of a record's pictures."""
    return partial(reading.find, folder=record.folder) if isinstance(record, FiledRecord) else reading.find


def picture_files(record: Record, reading: Reading, *, inside: bool) -> Iterator[FileImage]:
    """Pictures of a record that lie in files; `inside`: they may stand inside the question, too."""
    if isinstance(record, str):
        return
    names = reading.columns.get("images", ())
    parts = [part for name in names for part in picture_values(value_at(record, name))]
    if not parts and inside:
        # Of every record, whatever its answer: what a source is made of does not depend on how answers are read.
        row = table_row(record, 0, reading if reading.form == "text" else replace(reading, form="text"))
        yield from (image for image in getattr(row, "images", ()) if isinstance(image, FileImage))
        return
    find = _finder(record, reading)
    for part in parts:
        try:
            found = picture(part, find)
        except NoPictureError:
            continue
        if isinstance(found, FileImage):
            yield found


def _question(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, list[Any], list[str]] | Rejection:
    """Text, pictures that stand inside messages, notes."""
    texts: list[str] = []
    inside: list[Any] = []
    notes: list[str] = []
    for name in names:
        value = value_at(record, name)
        if value is None or value == "":
            continue
        talk = first_exchange(value) if not isinstance(value, str) or value.lstrip().startswith("[{") else None
        if talk is not None:
            texts.append(talk.question)
            inside += talk.images
            if talk.later:
                notes.append("later exchanges of a conversation left out")
        elif isinstance(value, str):
            texts.append(value)
        else:
            return Rejection("", "wrong_type", f"column {name} holds {type(value).__name__}, text is expected")
    if any(part is not None for part in inside) and any(part is None for part in inside):
        return Rejection("", "image_missing", "a message names some of its pictures and not others")
    inside = [part for part in inside if part is not None]
    return "\n".join(text.strip() for text in texts if text.strip()), inside, notes


def names_pictures(record: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether pictures stand inside the question: in parts of messages, or named in the text."""
    asked = _question(record, names)
    return not isinstance(asked, Rejection) and bool(asked[1] or plain_tags(asked[0])[1])


def choices_of(values: Sequence[Any]) -> list[str]:
    """Options in order, from one column that holds them all or from one column each; a letter in front is taken off.

    Raises:
        TypeError: options of another kind than texts and numbers.

    """
    options = _options(values[0]) if len(values) == 1 else [value for value in values if value not in (None, "")]
    for option in options:
        if not isinstance(option, str | int | float):
            raise TypeError(f"an option is {type(option).__name__}, text is expected")
    return without_letters([plain_answer(option).strip() for option in options])


def _options(value: Any) -> list[Any]:
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("{"):
            try:
                value = json.loads(stripped)
            except (ValueError, RecursionError):
                value = stripped
        else:
            value = picture_values(stripped)  # a list as text
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        if lettered := lettered_list(value[0]):
            return lettered
        mark = "\n" if "\n" in value[0] else ";"
        return [part for part in value[0].split(mark) if part.strip()] if mark in value[0] else list(value)
    if isinstance(value, Mapping):
        inner = next((value[key] for key in ("text", "texts", "options") if isinstance(value.get(key), list)), None)
        return inner if inner is not None else [part for part in value.values() if part is not None]
    if not isinstance(value, list | tuple):
        return []
    return [part.get("text", part) if isinstance(part, Mapping) else part for part in value if part is not None]


def _lettered(gold: Any, record: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Any:
    """The letter of the option that a record calls as its answer has it (ARC numbers some from 1); else the answer."""
    value = value_at(record, columns["choices"][0]) if len(columns.get("choices", ())) == 1 else None
    labels = value.get("label") if isinstance(value, Mapping) else None
    if isinstance(value, list):
        labels = [one.get("label") for one in value if isinstance(one, Mapping)]
    if not isinstance(labels, list) or gold not in labels[: len(LETTERS)] or gold is None:
        return gold
    return LETTERS[labels.index(gold)]


def _answer_value(record: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Any:
    for name in columns["answer"]:
        value = value_at(record, name)
        if value not in (None, "", []):
            talk = first_exchange(value)
            return value if talk is None else talk.answer
    return None


def _raw(value: Any) -> str:
    """The answer exactly as the record has it, as text."""
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return plain_answer(value)


def _images(record: Mapping[str, Any], reading: Reading, inside: list[Any]) -> list[FileImage | BytesImage]:
    names = reading.columns.get("images", ())
    values = [part for name in names for part in picture_values(value_at(record, name))]
    if len(names) > 1 or (len(values) == 1 and _is_empty(values[0])):
        values = [part for part in values if not _is_empty(part)]
    if reading.pictured and not values:
        raise NoPictureError("image_missing", f"no picture lies beside it ({', '.join(names)})")
    find = _finder(record, reading)
    return [picture(part, find) for part in (values or inside)]


def _is_empty(part: Any) -> bool:
    return part in (None, "", b"") or (isinstance(part, Mapping) and not any(part.values()))


def _word(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    found = (value_at(record, name) for name in names)
    return next((str(v) for v in found if isinstance(v, str | int | float) and str(v).strip()), None)


def _rates(record: Mapping[str, Any], names: Sequence[str]) -> list[float | None]:
    """Pass rates of the large and the small model."""
    return [*(pass_rate(_number(value_at(record, name))) for name in names[:2]), None, None][:2]


def _number(value: Any) -> Any:
    """A number that a CSV holds as text, as a number."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _extra(record: Mapping[str, Any], reading: Reading, notes: list[str]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in record.items():
        if name in reading.taken or value in (None, "", []):
            continue
        if name in _EXTRA:
            extra[name] = value
        elif is_short(value):
            others[name] = value
    for name in reading.columns.get("difficulty", ()):
        others.pop(name, None)
    if others:
        extra[OTHER_COLUMNS] = others
    for name in reading.columns.get("difficulty", ()):
        value = value_at(record, name)
        extra.pop(name, None)
        if value not in (None, "") and pass_rate(_number(value)) is None and _number(value) != UNKNOWN_RATE:
            extra[name] = value
    traces = [given_trace(value_at(record, name)) for name in reading.columns.get("trace", ())]
    last = {"trace": next(filter(None, traces), None), "mends": notes}
    return extra | {name: value for name, value in last.items() if value}
