"""What runs in the workers of a cluster: the very room that the local runner uses.

Not covered: who starts and counts workers (ray_runner).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_engine.runners.protocol import in_batches
from data_engine.runners.ray_cells import asks_of, cell_table, error_table, told_table, with_aside
from data_engine.runners.work import Worker
from shared.annotations import set_aside
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from data_engine.runners.protocol import Ask


class AskWorker:
    """One actor: owns one engine, started at its first batch.

    Args:
        setup: One-element list with a reference to `{"spec", "images", "sampling", "asks", "keeper"}`: fetched once per
            actor. `asks` and `keeper` are None where asks and cells travel themselves.

    """

    def __init__(self, setup: list[Any]) -> None:
        import ray

        given = ray.get(setup[0])
        self._node: str = ray.get_runtime_context().get_node_id()
        self._worker = Worker(given["spec"], given["images"], given["sampling"])
        self._asks, self._keeper = given["asks"], given["keeper"]
        self._told = 0

    def node(self) -> str:
        """Id of the node on which it runs."""
        return self._node

    def answer(self, table: pa.Table, *, again: bool = False) -> pa.Table:
        """Cells of a table of asks, or what the keeper tells of asks at some places.

        An error that concerns every ask is told as a row, so that the driver raises it. `again`: another actor had
        these asks and may have stored some of their cells.
        """
        try:
            if self._asks is None:
                return cell_table(self._worker.answer(asks_of(table)), self._news())
            told = self._keep(self._asks.read(table), again=again) | {"note": self._news()}
            return with_aside(told_table(told), set_aside())
        except (InfiMmrError, OSError) as error:
            return error_table(error, set_aside())

    def _keep(self, asks: list[Ask], *, again: bool) -> dict[str, Any]:
        """Answer asks and store their cells."""
        left = self._keeper.unknown(asks) if again else asks
        try:
            for cells in self._worker.through(in_batches(left, self._worker.spec.batch_size)):
                self._keeper(cells)
        finally:
            self._keeper.flush()
        told: dict[str, Any] = self._keeper.told()
        return told | {"cells": len(asks)}

    def _news(self) -> str:
        news = self._worker.warnings[self._told :]
        self._told = len(self._worker.warnings)
        return "; ".join(news)


def mapped(function: Callable[..., pa.Table], broadcast: Any, table: pa.Table) -> pa.Table:
    """Result of a function of tables, and what was set aside; an error with a message is told for the driver to raise.

    A task of Ray: `function` and `broadcast` (None: there is none) are read from the node's shared memory.
    """
    try:
        found = function(table) if broadcast is None else function(table, broadcast)
    except (InfiMmrError, OSError) as error:
        return error_table(error, set_aside())
    return with_aside(found, set_aside())
