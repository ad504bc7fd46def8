"""Everything on this machine: one engine (or endpoint), the next batch's images read while the engine works.

Also the reference for every other runner: same asks, same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from data_engine.runners.protocol import Ask, Cell, RunnerName, answer_tokens, in_batches
from data_engine.runners.work import Worker

if TYPE_CHECKING:
    import pyarrow as pa

    from shared.images import ImageSource
    from shared.progress import Task
    from shared.vlm.spec import EngineSpec, Sampling


class LocalRunner:
    """Runs steps in this process."""

    name: RunnerName = "local"

    def ask(
        self,
        engine: EngineSpec,
        asks: Iterable[Ask],
        sink: Callable[[list[Cell]], None],
        *,
        images: ImageSource,
        sampling: Sampling | None = None,
        task: Task | None = None,
    ) -> list[str]:
        """Answer every ask, batch by batch in the order given; see `Runner.ask`."""
        batches = in_batches(asks, engine.batch_size)
        first = next(batches, None)
        if first is None:
            return []
        worker = Worker(engine, images, sampling, waits=None if task is None else task.waits)
        try:
            for cells in worker.through(chain([first], batches)):
                sink(cells)
                if task is not None:
                    task.note(worker.warnings[-1] if worker.warnings else "")
                    task.advance(len(cells), tokens=answer_tokens(cells))
        finally:
            worker.close()
        return worker.warnings

    def map_batches(
        self,
        function: Callable[..., pa.Table],
        tables: Iterable[pa.Table],
        *,
        broadcast: Any = None,
        task: Task | None = None,
    ) -> Iterator[pa.Table]:
        """Apply `function` to each table in order; see `Runner.map_batches`."""
        for table in tables:
            yield function(table) if broadcast is None else function(table, broadcast)
            if task is not None:
                task.advance(table.num_rows)

    def close(self) -> None:
        """Nothing was started for this runner alone; engines stay in the room until the process ends."""
