"""The benchmarks' small sets: drawn problems as records with the very columns of the published files.

Input: a benchmark's name and an item's number. Output: the record, which takes the real one's road from there, so that
a local evaluation has its per-version, per-kind and per-level numbers. What is asked stays what
`shared.laptop.problems` draws; its shape stands in the benchmark's own file (`Mini` of `shared.benchmark`).
Not covered: proofs and questions that stand in the picture only (the bundled checkpoint could read neither).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.benchmarks import minis

if TYPE_CHECKING:
    from shared.laptop.problems import Problem


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
