"""A pool of Ray actors that answer tables, and that loses actors: each table is answered once, or its rows given up.

An actor is used once it runs; one that ends is replaced, wherever the cluster has room. The table that it had in work
is under suspicion from then on: its rows go out in pieces, at last one by one, without company, and one that was alone
in work when `LOSSES` actors ended is given up. What merely waited behind it is asked again as it is. All of that is
Ray's core (actors, `ray.wait`): Ray Data's executor, which does the same for tasks that may be repeated, sometimes
waits for ever for a block of a node that was lost.

Not covered: what an actor does (ray_worker), what becomes of a row that was given up (ray_runner).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import pyarrow as pa

LOSSES = 3
"""Actors that may end while they have one row in work; the row is given up then."""

GIVEN_UP = 8
"""Rows that may be given up in one pool. More mean that the cluster is ill, not the rows."""

STARTS = 6
"""Actors that may end in a row before one of them runs."""

IN_FLIGHT = 2
"""Tables per actor: one in work and one ready, so that an actor never waits for the driver."""

LOGS = "Look at the workers' logs (ray logs), then run the same again."

LOOK = 20.0
"""Seconds without an answer after which the actors' nodes are looked at."""


@dataclass
class Batch:
    """A table to answer.

    Attributes:
        table: Its rows are asks.
        losses: Actors that ended while they had it, a single row, in work.
        suspected: Whether an actor ended while it had these rows in work.

    """

    table: pa.Table
    losses: int = 0
    suspected: bool = False

    def lost(self, piece: int) -> list[Batch]:
        """What is asked again after one more actor ended with it in work; empty where its row is given up.

        Pieces where it is larger than one, else each row by itself.
        """
        rows = self.table.num_rows
        losses = self.losses + (rows == 1)
        step = piece if rows > piece else 1
        again = range(0, rows, step) if losses < LOSSES else ()
        return [Batch(self.table.slice(row, step), losses, suspected=True) for row in again]


def lacking(needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """What is asked for and what single nodes have, where an actor fits on none of them; else empty."""
    if any(all(node.get(name, 0) >= much for name, much in needs.items()) for node in nodes):
        return ""
    asked = " and ".join(f"{much:g} {name}" for name, much in needs.items())
    there = sorted({" and ".join(f"{node.get(name, 0):g} {name}" for name in needs) for node in nodes})
    return f"no node is large enough for a worker: it takes {asked}, single nodes have {' or '.join(there)}"


@dataclass
class _Seat:
    """An actor that runs: its node, and what it was given, oldest first."""

    node: str
    open: deque[tuple[Any, Batch]] = field(default_factory=deque)


class Pool:
    """Answers tables by actors.

    Args:
        start: Starts an actor with the methods `node` (its node's id) and `answer` (a table for a table; `again`:
            another actor had it).
        size: Actors at once.
        told: Is told of losses, in words, and once where no node is large enough for an actor.
        needs: Resources of an actor, as Ray names them.
        piece: Rows of a table's pieces before they go out one by one.

    Attributes:
        given_up: Tables of one row each, whose actors ended every time; the caller takes them out.

    """

    def __init__(
        self,
        start: Callable[[], Any],
        size: int,
        told: Callable[[str], None],
        *,
        piece: int = 1,
        needs: Mapping[str, float] | None = None,
    ) -> None:
        self.given_up: list[pa.Table] = []
        self._start = start
        self._size = size
        self._told = told
        self._piece = piece
        self._needs = needs or {}
        self._starting: dict[Any, Any] = {}  # by the reference that is ready when the actor is
        self._seats: dict[Any, _Seat] = {}
        self._again: list[Batch] = []
        self._failed_starts = 0

    def answers(self, tables: Iterable[pa.Table]) -> Generator[pa.Table]:
        """Answers as they come, in no promised order; what was given up has none.

        `tables` is read as actors become free, so that nobody holds more than what is in work.

        Raises:
            InfiMmrError: so many actors end that the cluster must be ill.
            ray.exceptions.RayTaskError: an actor raised; asking again would meet that again.

        """
        fresh = (Batch(table) for table in tables)
        following = next(fresh, None)
        whole = False
        try:
            while following or self._again or any(seat.open for seat in self._seats.values()):
                self._fill(following)
                following = self._hand_out(following, fresh)
                for reference in self._ready():
                    if reference in self._starting:
                        self._seat(reference)
                    elif (answer := self._taken(reference)) is not None:
                        yield answer
            whole = True
        finally:
            self._close(whole=whole)

    def _fill(self, following: Batch | None) -> None:
        """Start actors for what waits, as far as that is known."""
        busy = sum(bool(seat.open) for seat in self._seats.values())
        wanted = self._size if following else min(self._size, busy + len(self._again))
        for _ in range(wanted - len(self._seats) - len(self._starting)):
            actor = self._start()
            self._starting[actor.node.remote()] = actor

    def _hand_out(self, following: Batch | None, fresh: Iterator[Batch]) -> Batch | None:
        """Give each actor that has room what it may have; returns the next table that nobody has yet."""
        for depth in range(IN_FLIGHT):
            for actor, seat in self._seats.items():
                if len(seat.open) > depth or (seat.open and seat.open[0][1].suspected):
                    continue
                if self._again and not seat.open:
                    batch = self._again.pop()
                elif following and not self._again:
                    batch, following = following, next(fresh, None)
                else:
                    continue
                seat.open.append((actor.answer.remote(batch.table, again=batch.suspected), batch))
        return following

    def _ready(self) -> list[Any]:
        """Reference of what came next: an actor that runs, an answer, a loss; none after `LOOK` seconds."""
        import ray

        handed_out = [reference for seat in self._seats.values() for reference, _ in seat.open]
        ready: list[Any] = ray.wait([*self._starting, *handed_out], num_returns=1, timeout=LOOK)[0]
        if not ready:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            alive = {node["NodeID"] for node in nodes}
            if not self._seats and (lack := lacking(self._needs, [node["Resources"] for node in nodes])):
                self._told(lack)
                self._needs = {}
            for actor in [actor for actor, seat in self._seats.items() if seat.node not in alive]:
                self._lose(actor)
        return ready

    def _seat(self, reference: Any) -> None:
        """An actor runs, or ended before it did."""
        import ray

        actor = self._starting.pop(reference)
        try:
            self._seats[actor] = _Seat(ray.get(reference))
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                message = f"{STARTS} workers in a row ended before they ran: {str(error).splitlines()[0]}"
                raise InfiMmrError(message, LOGS) from error
        else:
            self._failed_starts = 0

    def _taken(self, reference: Any) -> pa.Table | None:
        """The answer behind `reference`; None where its actor is lost."""
        import ray

        actor, seat = next(
            (actor, seat) for actor, seat in self._seats.items() if any(reference == known for known, _ in seat.open)
        )
        try:
            answer: pa.Table = ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            self._lose(actor)
            return None
        seat.open = deque(pair for pair in seat.open if pair[0] != reference)
        return answer

    def _lose(self, actor: Any) -> None:
        """Put what a lost actor had back; give up a row whose actors ended too often."""
        import ray

        ray.kill(actor)  # where only the way to it was lost
        had = [batch for _, batch in self._seats.pop(actor).open]
        if not had:
            return
        self._told(f"{sum(batch.table.num_rows for batch in had)} asks were lost with their worker and are asked again")
        suspect, *waited = had
        self._again += waited
        if pieces := suspect.lost(self._piece):
            self._again += reversed(pieces)
            return
        self.given_up.append(suspect.table)
        if len(self.given_up) > GIVEN_UP:
            message = f"{len(self.given_up)} asks ended every worker they were given to"
            raise InfiMmrError(message, f"{LOGS} Finished answers are kept.")

    def _close(self, *, whole: bool) -> None:
        """End the actors: at leisure where their work is done."""
        import ray

        for actor in [*self._seats, *self._starting.values()]:
            if whole:
                actor.__ray_terminate__.remote()
            else:
                ray.kill(actor)
        self._seats.clear()
        self._starting.clear()
