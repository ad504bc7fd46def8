"""The small set of reasoning traces: text problems with the way to their answers.

It stands for a set such as OpenR1-Math: `trace` holds `<think>...</think>` and a boxed answer. As in a real one, some
traces end in a wrong answer and some rows have none; `planted` says which. The problems are drawn behind those of the
small DeepScaleR, from the same split, so that no row is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.fingerprint import fingerprint
from shared.laptop.mini_sets import MiniSet, MiniSettings

_FIRST = 100_000
"""Index of the first problem: the small DeepScaleR draws from 0 on."""
_WRONG_EVERY, _NONE_EVERY = 20, 12
DRAWN_BY = "a1eb2a668c7855418f3d3846d0e5a5fcdaac16fee40a8bd5aeccd07d56e40a70"
"""Names the traces, as `mini_sets.DRAWN_BY` names the drawings: another text as soon as other ones are written."""


class MiniTraces(MiniSet):
    """`settings.rows` problems with traces; duplicates and copies are not planted."""

    def __init__(self, settings: MiniSettings) -> None:
        plain = settings.model_copy(update={"duplicates": 0, "copies": 0, "renumbered": 0})
        super().__init__("deepscaler", plain)
        self.fingerprint = fingerprint({"traces_of": self.fingerprint, "by": DRAWN_BY})
        self.taken = f"{settings.rows} problems with reasoning traces drawn from the split mini-deepscaler"

    def records(self) -> Iterator[dict[str, Any]]:
        """Records with the columns of DeepScaleR and a trace."""
        from shared.laptop.problems import draw

        for number in range(self._settings.rows):
            problem = draw("mini-deepscaler", _FIRST + number)
            record = {"problem": problem.question, "answer": problem.answer, "id": problem.key, "level": problem.grade}
            if number % _NONE_EVERY == _NONE_EVERY - 1:
                yield record | {"planted": "no_trace"}
            elif number % _WRONG_EVERY == _WRONG_EVERY - 1:
                wrong = f"<think>{problem.thinking}</think>\n\\boxed{{{problem.answer}0}}"
                yield record | {"trace": wrong, "planted": "wrong_trace"}
            else:
                yield record | {"trace": problem.response}
