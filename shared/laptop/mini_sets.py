"""The project's own small sets, drawn by `shared.laptop.problems` with the same columns as the sources they stand for.

Records take the real ones' road from there. A benchmark's shape stands in its own file (`Mini` of `shared.benchmark`);
proofs and questions that stand in the picture only are left out: the bundled checkpoint could read neither.

`mini` of ViRL39K and DeepScaleR plants what a data engine must find, and says in `extra.planted` what each is:
- `duplicate_of:KEY exact`: the same words and the same picture under another key;
- `duplicate_of:KEY edited`: other letter case and blanks, the same picture packed anew (equal pixels, other bytes);
- `copy_of:BENCHMARK/KEY exact`: a benchmark item, its picture packed anew;
- `copy_of:BENCHMARK/KEY renumbered`: a text benchmark's item with other numbers.
Equal words about other pictures come by themselves (they are drawn from few wordings) and must survive.
Everything is deterministic: the same settings give the same bytes on every machine.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from shared.benchmarks import minis
from shared.config import Strict
from shared.errors import UsageError, did_you_mean
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    from shared.laptop.problems import Problem

_CATEGORIES = {
    "mathgeo": "(GradeSchool) Geometric",
    "chart": "Tables/Diagrams/Charts",
    "table": "Tables/Diagrams/Charts",
    "equation": "(GradeSchool) Non-Geo Math",
    "natural": "Commonsense",
    "aigc": "Spatial Reasoning",
    "ocr": "Broader STEM Topics",
    "gui": "Broader STEM Topics",
}
_PASS_RATES = {"easy": (1.0, 0.75), "medium": (0.75, 0.5), "hard": (0.5, -1.0)}
_TEXT_EVERY = 12
"""One row in 12 has no picture: ViRL39K has some, taken over from text sets."""


class MiniSettings(Strict):
    """How much is drawn and how much is planted."""

    rows: int = Field(default=240, ge=1, description="Problems drawn, planted ones not counted.")
    duplicates: int = Field(default=8, ge=0, description="Planted duplicates, every second one edited; 0 plants none.")
    copies: int = Field(default=2, ge=0, description="Planted benchmark items per benchmark; 0 plants none.")
    renumbered: int = Field(
        default=2, ge=0, description="Planted items with other numbers per text benchmark; 0 plants none."
    )


DRAWN_BY = "8b58a537898b098023506dc3ec9eee68fd4b701083a509bc237e04b0152c9f8a"
"""Names the drawings, and stands behind each row's revision: another text as soon as the same settings draw otherwise
(a test holds what is drawn). Code that is only moved or reworded leaves it."""
TRACES_DRAWN_BY = "a1eb2a668c7855418f3d3846d0e5a5fcdaac16fee40a8bd5aeccd07d56e40a70"
"""Names the traces likewise."""
_FIRST_TRACE = 100_000
"""Index of the first problem with a trace: the small DeepScaleR draws from 0 on, from the same split."""
_WRONG_TRACE_EVERY, _NO_TRACE_EVERY = 20, 12


@dataclass(frozen=True)
class _Drawings:
    """The drawn problems of one benchmark's split."""

    name: str

    def problem(self, number: int) -> Problem:
        from shared.laptop.problems import draw

        return draw(f"mini-{self.name}", number)

    @staticmethod
    def reworded(problem: Problem) -> str:
        """The question in the other wording that the split's benchmarks have for it; unchanged where none fits."""
        from shared.laptop.problems import KINDS, split_of

        name = problem.form.partition("/")[2].removesuffix("-choice")
        form = next(form for form in KINDS[problem.kind].forms if form.name == name)
        for wording in form.wordings[split_of(problem.split).wordings]:
            fields = re.fullmatch(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(wording)), problem.stem)
            if fields is None:
                continue
            for other in form.wordings[split_of(problem.split).wordings]:
                if other != wording and set(re.findall(r"\{(\w+)\}", other)) <= set(fields.groupdict()):
                    return other.format(**fields.groupdict())
        return problem.stem


def item_problem(name: str, number: int) -> Problem:
    """What item `number` asks, as a drawn problem with the item's key, question and answer."""
    found: Problem = minis()[name].problem(_Drawings(name), number)
    return found


def benchmark_record(name: str, number: int) -> dict[str, Any]:
    """Item `number` with the columns of the benchmark's published file."""
    problem = item_problem(name, number)
    record = minis()[name].record(problem, number, _Drawings(name))
    if problem.image_png:
        record["image"] = {"bytes": problem.image_png, "path": f"images/{problem.key}.png"}
    return record


class MiniSet:
    """The small set that stands for `stands_for`: virl39k, deepscaler, or a benchmark.

    Attributes:
        fingerprint: sha256 over the settings and what names the drawings.
        taken: What is drawn, in words.

    Raises:
        UsageError: no set stands for that.
    """

    def __init__(self, stands_for: str, settings: MiniSettings) -> None:
        known = ("virl39k", "deepscaler", *minis())
        if stands_for not in known:
            raise UsageError(f"no mini set stands for {stands_for!r}", did_you_mean(stands_for, known))
        self.name = stands_for
        self._settings = settings
        self._copied = {n: m.text_only for n, m in minis().items() if m.text_only or stands_for == "virl39k"}
        self.fingerprint = fingerprint({"stands_for": stands_for, "settings": settings, "drawn_by": DRAWN_BY})
        self.taken = f"{settings.rows} problems drawn from the split mini-{stands_for}"

    def count(self) -> int:
        """Problems drawn and planted."""
        if self.name in minis():
            return self._settings.rows
        planted = sum(self._settings.copies + text * self._settings.renumbered for text in self._copied.values())
        return self._settings.rows + self._settings.duplicates + planted

    def records(self) -> Iterator[dict[str, Any]]:
        """Records with the columns of the published files; drawn problems first, planted ones after them."""
        if self.name in minis():
            yield from (benchmark_record(self.name, index) for index in range(self._settings.rows))
            return
        for index in range(self._settings.rows):
            problem = self._drawn(index)
            yield self._record(problem, problem.key, problem.question)
        for number in range(self._settings.duplicates):
            problem = self._drawn(number * 7 % self._settings.rows)
            edited = number % 2 == 1
            question = _edited(problem.question) if edited else problem.question
            record = self._record(problem, f"{problem.key}-again-{number}", question, repack=edited)
            yield record | {"planted": f"duplicate_of:{problem.key} {'edited' if edited else 'exact'}"}
        for name, text in self._copied.items():
            for number in range(self._settings.copies):
                problem = item_problem(name, number * 3)
                record = self._record(problem, f"from-{problem.key}", problem.question, repack=True)
                yield record | {"planted": f"copy_of:{name}/{problem.key} exact"}
            for number in range(text * self._settings.renumbered):
                problem = item_problem(name, number * 3 + 1)
                record = self._record(problem, f"from-{problem.key}", _renumbered(problem.question), repack=True)
                yield record | {"planted": f"copy_of:{name}/{problem.key} renumbered"}

    def _record(self, problem: Problem, key: str, question: str, *, repack: bool = False) -> dict[str, Any]:
        """A record with ViRL39K's columns, its picture packed anew where asked, or with DeepScaleR's and a key."""
        if self.name != "virl39k":
            return {"problem": question, "answer": problem.answer, "id": key, "level": problem.grade}
        large, small = _PASS_RATES[problem.grade]
        data = problem.image_png
        return {
            "question": ("<image>\n" if data else "") + question,
            "answer": f"\\boxed{{{problem.answer}}}",
            "PassRate_32BTrained": large,
            "PassRate_7BBase": small,
            "category": _CATEGORIES.get(problem.image_type or "", "(GradeSchool) Non-Geo Math"),
            "source": f"mini-{problem.kind}",
            "qid": key,
            "image": [{"bytes": repacked(data) if repack else data, "path": f"images/{key}.png"}] if data else [],
        }

    def _drawn(self, index: int) -> Problem:
        from shared.laptop.problems import draw

        return draw(f"mini-{self.name}", index, text_only=index % _TEXT_EVERY == _TEXT_EVERY - 1)


class MiniTraces(MiniSet):
    """The small set that stands for reasoning traces such as OpenR1-Math: problems with the way to their answers.

    `trace` holds `<think>...</think>` and a boxed answer. As in a real set, some traces end in a wrong answer and some
    rows have none; `planted` says which. Duplicates and copies are not planted.
    """

    def __init__(self, settings: MiniSettings) -> None:
        plain = settings.model_copy(update={"duplicates": 0, "copies": 0, "renumbered": 0})
        super().__init__("deepscaler", plain)
        self.fingerprint = fingerprint({"traces_of": self.fingerprint, "by": TRACES_DRAWN_BY})
        self.taken = f"{settings.rows} problems with reasoning traces drawn from the split mini-deepscaler"

    def records(self) -> Iterator[dict[str, Any]]:
        """Records with the columns of DeepScaleR and a trace."""
        from shared.laptop.problems import draw

        for number in range(self._settings.rows):
            problem = draw("mini-deepscaler", _FIRST_TRACE + number)
            record = self._record(problem, problem.key, problem.question)
            if number % _NO_TRACE_EVERY == _NO_TRACE_EVERY - 1:
                yield record | {"planted": "no_trace"}
            elif number % _WRONG_TRACE_EVERY == _WRONG_TRACE_EVERY - 1:
                wrong = f"<think>{problem.thinking}</think>\n\\boxed{{{problem.answer}0}}"
                yield record | {"trace": wrong, "planted": "wrong_trace"}
            else:
                yield record | {"trace": problem.response}


def _edited(question: str) -> str:
    """Other letter case at the start and doubled blanks: a difference that no reader would call one."""
    return (question[:1].lower() + question[1:]).replace(" ", "  ")


def _renumbered(question: str) -> str:
    """Every number in the text raised by 7."""
    return re.sub(r"\d+", lambda number: str(int(number[0]) + 7), question)


def repacked(png: bytes) -> bytes:
    """The same pixels in another PNG file."""
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        # Stored without compression: the bytes then do not depend on the zlib that Pillow was built with.
        image.convert("RGB").save(out, format="PNG", compress_level=0)
    return out.getvalue()
