"""Pool of worker processes for the symbolic layer. (First increment.)"""

from __future__ import annotations


class GraderPool:
    """Worker processes that compare symbolic answers under a hard deadline."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""


def default_pool() -> GraderPool:
    """The process-wide pool."""
    return GraderPool()
