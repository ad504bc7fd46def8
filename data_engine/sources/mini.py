"""The project's own small sets as sources: drawn records, read as the records of published files are.

`shared.laptop` draws them, says what is planted among them, and names what is drawn; here they become rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_engine.sources.base import Rejection, SourceRow
from data_engine.sources.benchmarks import benchmark_row
from data_engine.sources.deepscaler import text_row
from data_engine.sources.virl39k import virl_row
from shared.benchmark_files import read_record
from shared.laptop import MiniSet, MiniSettings, MiniTraces

__all__ = ["Mini", "MiniSettings"]

_NOWHERE = Path("/nonexistent")


class Mini:
    """The small set that stands for `stands_for` (virl39k, deepscaler, or a benchmark); see `Source`.

    With `traces` it is the deepscaler's set of reasoning traces.
    """

    location = "mini"
    licence = "Apache-2.0"

    def __init__(self, stands_for: str, settings: MiniSettings, *, traces: bool = False) -> None:
        self._set = MiniTraces(settings) if traces else MiniSet(stands_for, settings)
        self.name = stands_for
        self.revision = f"sha256:{self._set.fingerprint[:16]}"
        self.taken = self._set.taken

    def fingerprint(self) -> str:
        """Hash over the settings and what names the drawings."""
        return self._set.fingerprint

    def count(self) -> int:
        """Problems drawn and planted."""
        return self._set.count()

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """Drawn problems first, planted ones after them."""
        for place, record in enumerate(self._set.records()):
            if self.name == "virl39k":
                yield virl_row(record, place, _NOWHERE)
            elif self.name == "deepscaler":
                yield text_row(record, place)
            else:
                item = read_record(self.name, record, Path(f"mini-{self.name}.jsonl"), place)
                # Drawn questions list options on one line, which the reader of MathVerse's lines does not look for.
                item["extra"]["choices_in_question"] = bool(item["choices"])
                yield benchmark_row(item)
