"""Which column of a set serves which role, guessed from names and values, or as told.

Input: a sample of records, and what the recipe tells. Output: a `Guess`: columns by role, and what a person should know
about it, in words. A role may have several columns (options A, B, C; pictures image_1, image_2; a context before the
question); a dot leads into nested objects (`reward_model.ground_truth`).
Names are those of public sets and of the usual trainers' formats; values decide whether a name fits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from data_engine.sources.base import plain_answer
from data_engine.sources.conversations import is_conversation, last_exchange_has_answer
from data_engine.sources.picture_values import looks_like_picture, picture_values
from data_engine.sources.records import FiledRecord
from data_engine.sources.table_shards import IMAGES
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.option_lists import lettered_list

ROLES = ("id", "question", "answer", "choices", "images", "category", "difficulty")
TOLD_ONLY = ("trace",)
"""Roles that are never guessed: a worked solution is no part of a row unless a recipe asks for it (`extra.trace`)."""

_NAMES = {
    "question": (
        "question", "problem", "query", "question_text", "question_string", "question_stem", "problem_text",
        "annotat_text", "compact_text",        "problem_statement", "prompt", "instruction",
        "input", "text_question", "body", "messages", "conversations", "conversation", "message", "dialog", "chat",
    ),
    "answer": (
        "answer", "final_answer", "gold_answer", "gold", "ground_truth", "groundtruth", "expected_answer",
        "correct_answer", "reference_answer", "gt_answer", "gt", "reward_model.ground_truth", "answer_key", "answerkey",
        "correct_option", "correct_choice", "correct", "label", "labels", "target", "solution", "response", "output",
        "completion", "answers", "txt", "messages", "conversations", "conversation", "dialog", "chat",
    ),
    "choices": ("choices", "options", "candidates", "answer_choices", "mc_choices", "option", "choice"),
    "images": (
        "__images__", "images", "image", "decoded_image", "img", "image_bytes", "image_path", "image_paths", "img_path",
        "picture", "pictures", "figure", "diagram", "file_name", "filename", "imgname", "image_file", "image_name",
        "image_url",
    ),
    "id": (
        "id", "qid", "pid", "uid", "uuid", "unique_id", "question_id", "problem_id", "item_id", "sample_id", "index",
        "idx", "sample_index", "extra_info.index", "__key__",
    ),
    "category": (
        "category", "subject", "subfield", "domain", "problem_type", "task_type", "topic", "skill", "task", "type",
    ),
    "difficulty": (
        "pass_rate", "passrate", "pass_rate_large", "passrate_32btrained", "solve_rate", "success_rate", "accuracy",
        "difficulty", "level",
    ),
}  # fmt: skip
"""Best first; compared without letter case, blanks, hyphens and underscores."""
PICTURE_WORDS = frozenset({"image", "img", "picture", "pic", "figure", "fig", "diagram", "photo"})
_INSIDE = re.compile(r"\{([^{}]+)\}")
_CONTEXT = ("hint", "context", "passage", "input", "body", "premise")
"""Columns that often hold a part of the problem beside the question: told, never taken unasked."""
_ANSWER_TYPES = (str, int, float, Decimal, list, tuple)
_MOST_DISTINCT = 0.9
_FAMILIES = {
    "choices": (r"[A-H]", r"option[_ ]?[A-H1-8]", r"choice[_ ]?[A-H1-8]"),
    "images": (r"image[_ ]?\d{1,2}", r"img[_ ]?\d{1,2}"),
    "difficulty": (r"PassRate_(32BTrained|7BBase)", r"pass_rate_(large|small)"),
}
"""Roles that sets spread over several columns."""


@dataclass(frozen=True)
class Guess:
    """Columns by role (one or several each), and what should be told about them."""

    columns: Mapping[str, tuple[str, ...]]
    told: tuple[str, ...] = ()
    known: tuple[str, ...] = field(default=(), compare=False)


def value_at(record: Mapping[str, Any], column: str) -> Any:
    """Value of a column; a dot leads into nested objects where no column has the whole name.

    `png/{image_index}.png` is a text in which columns stand; None where a record lacks one of them.
    """
    if column in record:
        return record[column]
    if "{" in column:
        held = {name: value_at(record, name) for name in _INSIDE.findall(column)}
        lacking = not held or any(value in (None, "") for value in held.values())
        return None if lacking else _INSIDE.sub(lambda name: str(held[name[1]]), column)
    if "." not in column:
        return None
    if isinstance(record, FiledRecord):  # a picture that lies beside the record, by its own name
        return column if column in record.get(IMAGES, ()) else None
    value: Any = record
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def columns_read(names: Iterable[str]) -> list[str]:
    """Columns of a file that hold what `names` of columns stand for."""
    inner = (part for name in names for part in ([name, *_INSIDE.findall(name)] if "{" in name else [name]))
    return list(dict.fromkeys(part for name in inner for part in (name.split(".")[0], name)))


def guess_columns(records: Sequence[Mapping[str, Any]], told: Mapping[str, Sequence[str]], *, what: str) -> Guess:
    """Columns for every role: as `told` (an empty list switches a role off), else the best guess.

    Raises:
        UsageError: an unknown role.
        InfiMmrError: a told column that no record of the sample has, or no column for the question or the answer.

    """
    known = list(dict.fromkeys(_known(records)))
    columns = _told(records, known, told, what)
    notes: list[str] = []
    for role in ROLES:
        if role in columns:
            continue
        taken = {name for names in columns.values() for name in names}
        found = _family(role, records, known) or _single(role, records, known, taken, columns)
        if found:
            columns[role] = found
    if "images" not in told and columns.get("images") == (IMAGES,) and _filed(records):
        columns["images"], said = _beside(records)
        notes.append(said)
    for role in ("question", "answer"):
        if not columns.get(role):
            first = {name: value for name in _candidates(role, known) for value in _values(records, name)[:1]}
            held = "".join(f", {name} holds {type(value).__name__}" for name, value in first.items())
            raise InfiMmrError(
                f"{what}: no column could be taken as {role}{held} (columns: {', '.join(known[:40]) or 'none'})",
                f'Name it in the recipe: [source.columns] {role} = "..."',
            )
    if "question" not in told and (story := _story(records, known, columns)):
        columns["question"] = (story, *columns["question"])
        notes.append(f"{story} stands before the question: the same questions are asked about different ones")
    notes += _doubts(records, known, columns, told)
    ordered = {role: columns[role] for role in (*ROLES, *TOLD_ONLY) if columns.get(role)}
    return Guess(ordered, tuple(notes), tuple(known))


def _told(
    records: Sequence[Mapping[str, Any]], known: Sequence[str], told: Mapping[str, Sequence[str]], what: str
) -> dict[str, tuple[str, ...]]:
    """What the recipe tells, checked against the columns that are there."""
    for role, names in told.items():
        if role not in (known_roles := (*ROLES, *TOLD_ONLY)):
            raise UsageError(f"{what}: source.columns has no role {role!r}", did_you_mean(role, known_roles))
        for name in names:
            if name not in known and all(value_at(record, name) is None for record in records):
                raise InfiMmrError(f"{what}: no column {name!r} for the role {role}", did_you_mean(name, known))
    return {role: tuple(names) for role, names in told.items()}


def _story(records: Sequence[Mapping[str, Any]], known: Sequence[str], columns: Mapping[str, tuple[str, ...]]) -> str:
    """A column that tells what the questions are about, as SVAMP's Body; empty where there is none.

    It is there in nearly all records; without it the questions repeat, with it they do not.
    """
    question = columns["question"][0]
    asked = [value_at(record, question) for record in records]
    if "images" in columns or len({str(one) for one in asked}) > _MOST_DISTINCT * len(asked):
        return ""
    for name in known:
        if _plain(name) in _CONTEXT and name not in columns["question"]:
            told = [value_at(record, name) for record in records]
            filled = sum(isinstance(text, str) and bool(text.strip()) for text in told)
            pairs = {(str(text), str(one)) for text, one in zip(told, asked, strict=True)}
            if filled > _MOST_DISTINCT * len(told) and len(pairs) > _MOST_DISTINCT * len(told):
                return name
    return ""


def _known(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for record in records:
        for name, value in record.items():
            yield str(name)
            if isinstance(value, Mapping) and not looks_like_picture(value):
                yield from (f"{name}.{inner}" for inner in value)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _values(records: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """Values that say something."""
    found = (value_at(record, column) for record in records)
    return [value for value in found if value is not None and value not in ("", [])]


def _candidates(role: str, known: Sequence[str]) -> list[str]:
    by_name: dict[str, list[str]] = {}
    for name in known:
        by_name.setdefault(_plain(name), []).append(name)
    return [name for wanted in _NAMES[role] for name in by_name.get(_plain(wanted), [])]


def _family(role: str, records: Sequence[Mapping[str, Any]], known: Sequence[str]) -> tuple[str, ...]:
    for pattern in _FAMILIES.get(role, ()):
        names = sorted((name for name in known if re.fullmatch(pattern, name, re.IGNORECASE)), key=_natural)
        filled = [name for name in names if _values(records, name)]  # the others may be, beyond the sample
        fits = all(_fits(role, _values(records, name), len(records)) for name in filled) if role == "images" else True
        least = 1 if role == "images" else 2
        if len(names) > 1 and len(filled) >= least and fits and not (role == "choices" and _candidates(role, known)):
            return tuple(names)
    return ()


def _natural(name: str) -> tuple[str, int]:
    number = re.search(r"\d+$", name)
    return (name[: number.start()] if number else name, int(number[0]) if number else 0)


def _single(
    role: str,
    records: Sequence[Mapping[str, Any]],
    known: Sequence[str],
    taken: set[str],
    columns: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    if role == "answer" and "question" in columns:
        taken = taken - {name for name in columns["question"] if _holds_talk(records, name)}
    fitting = [
        name
        for name in _candidates(role, known)
        if name not in taken and _fits(role, _values(records, name), len(records))
    ]
    if role == "images":
        fitting = fitting or [
            name for name in known if name not in taken and _fits(role, _values(records, name), len(records))
        ]
        if _filed(records):  # a picture that is named, before any that lies there
            named = [name for name in (*fitting, *known) if name != IMAGES and name not in taken]
            fitting = [name for name in named if _fits(role, _values(records, name), len(records))] or fitting
        # The bytes themselves before a name of the same picture (MathVista has both).
        fitting.sort(key=lambda name: not _holds_bytes(_values(records, name)))
    return tuple(fitting[:1])


def _filed(records: Sequence[Mapping[str, Any]]) -> bool:
    return bool(records) and isinstance(records[0], FiledRecord)


def lie_beside(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Whether pictures of these names lie beside most records, so that one without has lost its own."""
    if not names or not _filed(records) or any(n != IMAGES and n in record for n in names for record in records):
        return False
    return sum(any(value_at(r, name) for name in names) for r in records) > len(records) / 2


def _beside(records: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], str]:
    """Which of the pictures beside records are theirs, and what to tell: of names that come back those of pictures.

    `img_diagram.png` rather than `img_diagram_point.png`, a drawing over it; all of them where names differ.
    """
    held = [record[IMAGES] for record in records if IMAGES in record]
    counts = Counter(name for names in held for name in names)
    common = [name for name, count in sorted(counts.items()) if 2 * count > len(held)]
    said = f"images taken from beside the records, whose columns name none ({len(held)} of {len(records)} have some)"
    if len(held) < len(records):
        said += f"; others are {'refused' if lie_beside(records, (IMAGES,)) else 'read without'}"
    if not common:
        return (IMAGES,), f"{said} (columns.images overrides)"
    words = {name: re.findall(r"[a-z]+", name.rpartition(".")[0].lower()) for name in common}
    plain = [name for name in common if words[name] and PICTURE_WORDS.issuperset(words[name])]
    first = [name for name in common if not any(_begins(name, other) for other in common)]
    taken = tuple(sorted(plain or first, key=_natural))
    others = sorted(counts.keys() - set(taken))
    also = f"; also there: {', '.join(others[:5])}" if others else ""
    return taken, f"{said}: {', '.join(taken)}{also} (columns.images overrides)"


def _begins(name: str, other: str) -> bool:
    """Whether another picture's name is how this one's begins."""
    stem, start = name.rpartition(".")[0], other.rpartition(".")[0]
    return stem != start and stem.startswith(start)


def _holds_talk(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(is_conversation(value) for value in _values(records, name))


def _holds_bytes(values: Sequence[Any]) -> bool:
    return any(
        isinstance(part, bytes) or (isinstance(part, Mapping) and part.get("bytes"))
        for value in values[:16]
        for part in picture_values(value)
    )


def _fits(role: str, values: Sequence[Any], records: int) -> bool:  # noqa: PLR0911 - one rule per role
    if not values:
        return False
    if role == "question":
        good = [value for value in values if is_conversation(value) or (isinstance(value, str) and value.strip())]
        return 2 * len(good) > len(values)
    if role == "answer":
        if any(is_conversation(value) for value in values):
            return any(last_exchange_has_answer(value) for value in values)
        return any(isinstance(value, _ANSWER_TYPES) for value in values)
    if role == "choices":
        return any(isinstance(value, list | tuple | Mapping) or _listed(value) for value in values)
    if role == "images":
        parts = [part for value in values for part in picture_values(value)]
        return bool(parts) and 2 * sum(map(looks_like_picture, parts)) > len(parts)
    if role == "id":
        scalars = [value for value in values if isinstance(value, str | int) and len(str(value)) <= 200]
        return len(scalars) == len(values) == len(set(map(str, scalars))) and 2 * len(values) > records
    if role == "category":
        return all(isinstance(value, str | int) and len(str(value)) <= 120 for value in values)
    return all(isinstance(value, str | int | float) for value in values)


def _listed(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value.lstrip().startswith(("[", "{")) or "\n" in value or ";" in value or bool(lettered_list(value))


def _doubts(
    records: Sequence[Mapping[str, Any]],
    known: Sequence[str],
    columns: Mapping[str, tuple[str, ...]],
    told: Mapping[str, Sequence[str]],
) -> list[str]:
    """What a person should look at: other columns that would have fitted, and text beside the question."""
    notes = []
    taken = {name for names in columns.values() for name in names}
    for role in ("question", "answer", "images"):
        if role in told or role not in columns:
            continue
        others = [
            name
            for name in _candidates(role, known)
            if name not in taken and _fits(role, _values(records, name), len(records))
        ]
        if others and not (set(others) == {IMAGES} and _filed(records)):
            notes.append(f"{role} from {', '.join(columns[role])}; also possible: {', '.join(dict.fromkeys(others))}")
    for name in known:
        if _plain(name) in _CONTEXT and name not in taken and "question" not in told:
            texts = [value for value in _values(records, name) if isinstance(value, str)]
            if texts:
                pair = f'["{name}", "{columns["question"][0]}"]'
                notes.append(f"{name} holds text, too, which the question leaves out (question = {pair} adds it)")
    options = [
        one for n in columns.get("choices", ()) for value in _values(records, n) for one in picture_values(value)
    ]
    if options and 2 * sum(map(looks_like_picture, options)) > len(options):
        notes.append(f"{columns['choices'][0]} holds names of images, which rows show as words")
    answers = [(name, value) for name in columns["answer"] for value in _values(records, name)]
    odd = {name: value for name, value in answers if not isinstance(value, (*_ANSWER_TYPES, Mapping))}
    notes += [
        f"{name} holds {type(value).__name__}, taken as text, as {plain_answer(value)}" for name, value in odd.items()
    ]
    if "difficulty" in columns:
        values = [value for name in columns["difficulty"] for value in _values(records, name)]
        if not all(isinstance(value, int | float) and -1 <= value <= 1 for value in values):
            notes.append(f"{columns['difficulty'][0]} holds no pass rates from 0 to 1: kept in extra as it is")
    return notes
