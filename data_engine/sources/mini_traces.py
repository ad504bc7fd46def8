"""The small set of reasoning traces: text problems of the mini world with the way to their answers.

It stands for a set such as OpenR1-Math: `extra.trace` holds `<think>...</think>` and a boxed answer. As in a real one,
some traces end in a wrong answer and some rows have none; `extra.planted` says which. The problems are drawn behind
those of the small DeepScaleR, from the same split, so that no row is in both.
A file of its own: the code that draws the other small sets is part of their revisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.sources.mini import Mini, MiniSettings
from shared.fingerprint import bytes_hash, fingerprint

_FIRST = 100_000
"""Index of the first problem: the small DeepScaleR draws from 0 on."""
_WRONG_EVERY, _NONE_EVERY = 20, 12


class MiniTraces(Mini):
    """`settings.rows` problems with traces; duplicates and copies are not planted."""

    def __init__(self, settings: MiniSettings) -> None:
        plain = settings.model_copy(update={"duplicates": 0, "copies": 0, "renumbered": 0})
        super().__init__("deepscaler", plain)
        self._fingerprint = fingerprint({"traces_of": self._fingerprint, "by": bytes_hash(Path(__file__).read_bytes())})
        self.revision = f"sha256:{self._fingerprint[:16]}"
        self.taken = f"{settings.rows} problems with reasoning traces drawn from the split mini-deepscaler"

    def _records(self) -> Iterator[dict[str, Any]]:
        from shared.mini_world import draw

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
