"""Pieces of a source that know what stands before them: the workers of a cluster count the records that no file tells.

Input: a source and its pieces. Output: the pieces to read, cut where they were counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_engine.blocks import over
from data_engine.sources.base import Count, Piece

if TYPE_CHECKING:
    from data_engine.runners.protocol import Runner
    from shared.progress import Task


def placed_pieces(source: Any, pieces: Sequence[Piece], runner: Runner, task: Task | None = None) -> tuple[Piece, ...]:
    """Count those of the pieces of a source (`InPieces`) that do not say how many records they hold, and place all.

    Raises:
        InfiMmrError: a file cannot be read, or holds no records.

    """
    placed = False
    while not placed or any(piece.height is None for piece in pieces):
        unknown = [piece for piece in pieces if piece.height is None]
        if task is not None and unknown:
            task.waits("counting records")
        found = iter([*over(runner, _count_piece, range(len(unknown)), unknown, away=bool(unknown))])
        counts = [Count(**next(found)) if piece.height is None else Count(piece.height) for piece in pieces]
        pieces, placed = source.placed(pieces, counts), True
    if task is not None:
        task.waits("")
    return tuple(pieces)


def _count_piece(number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
    return dataclasses.asdict(pieces[number].count())
