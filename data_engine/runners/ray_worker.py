"""What runs in the workers of a cluster, the very room that the local runner uses, and how it tells what it met.

Of asks only the places where they lie travel (`part`, `row`), and of their cells what the keeper tells, as JSON. An
error that concerns all of the work comes back as a table of its own (`infi_mmr_error`).
Not covered: who starts and counts workers (ray_runner).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from data_engine.runners.protocol import Ask, in_batches
from data_engine.runners.work import Worker
from shared.annotations import set_aside, tell_aside
from shared.errors import InfiMmrError

ERROR, TOLD = "infi_mmr_error", "told"
_ASIDE = b"infi_mmr_aside"


class AskWorker:
    """One actor: owns one engine, started at its first batch.

    Args:
        setup: One-element list with a reference to `{"spec", "images", "sampling", "asks", "keeper"}`: fetched once per
            actor.

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
        """What the keeper tells of asks at some places.

        An error that concerns every ask is told as a row, so that the driver raises it. `again`: another actor had
        these asks and may have stored some of their cells.
        """
        try:
            told = self._keep(self._asks.read(table), again=again) | {"note": self._news()}
            return with_aside(pa.table({TOLD: [json.dumps(told)]}), set_aside())
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


def error_table(error: InfiMmrError | OSError, aside: Sequence[str] = ()) -> pa.Table:
    """A table of one row that tells an error which concerns all of the work, and what was set aside before it.

    Ray would wrap the error in one of its own, whose class nobody catches.
    """
    told: dict[str, object] = {"class": f"{type(error).__module__}.{type(error).__qualname__}", "aside": list(aside)}
    if isinstance(error, InfiMmrError):
        told |= {"message": error.message, "next_step": error.next_step}
    else:
        name = None if error.filename is None else str(error.filename)
        told |= {"errno": error.errno, "strerror": error.strerror or str(error), "filename": name}
    return pa.table({ERROR: [json.dumps(told)]})


def with_aside(table: pa.Table, aside: Sequence[str]) -> pa.Table:
    """`table`, which tells what a worker set aside while it made it."""
    if not aside:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _ASIDE: json.dumps(list(aside))})


def taken(table: pa.Table) -> pa.Table:
    """What a worker made, as it made it: what it set aside is noted here, and an error that it told is raised.

    Raises:
        InfiMmrError: the worker met it; of the same class where that says no more than its message.
        OSError: the worker met it.

    """
    if ERROR not in table.column_names:
        metadata = dict(table.schema.metadata or {})
        if aside := metadata.pop(_ASIDE, None):
            tell_aside(json.loads(aside))
            return table.replace_schema_metadata(metadata or None)
        return table
    error = json.loads(table.column(ERROR).drop_null()[0].as_py())
    tell_aside(error["aside"])
    if "message" in error:
        raise _class_named(error["class"])(error["message"], error["next_step"])
    if error["errno"] is None:
        raise OSError(error["strerror"])
    raise OSError(error["errno"], error["strerror"], error["filename"])


def _class_named(name: str) -> type[InfiMmrError]:
    """Our error class of this name; `InfiMmrError` where it is not known here or is made of more than a message."""
    classes = [InfiMmrError]
    for known in classes:
        classes += known.__subclasses__()
        if f"{known.__module__}.{known.__qualname__}" == name and known.__init__ is InfiMmrError.__init__:
            return known
    return InfiMmrError
