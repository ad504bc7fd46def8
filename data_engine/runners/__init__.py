"""Runners get asks done: here (`local`) or on a Ray cluster (`ray_runner`), with the very same cells as result.

A step says what it asks about which keys (`Ask`); a runner asks the engine and hands finished cells to the step's sink
as they come; the sink stores them. `map_batches` does the same for functions that need no model.

Not covered: what is asked (steps), how an engine works (shared/vlm), where cells are kept (annotations).
"""

from __future__ import annotations

from collections.abc import Callable

from data_engine.runners.protocol import Ask, Cell, Runner, RunnerName

__all__ = ["Ask", "Cell", "Runner", "RunnerName", "open_runner"]


def open_runner(name: RunnerName, *, workers: int | None = None, told: Callable[[str], None] | None = None) -> Runner:
    """Open the runner `name`; `workers` bounds its engines (None: one per GPU, one without GPUs).

    `told` is told, in words, what its work waits for where that is no work.
    """
    if name == "ray":
        from data_engine.runners.ray_runner import RayRunner

        return RayRunner(workers=workers, told=told)
    from data_engine.runners.local import LocalRunner

    return LocalRunner()
