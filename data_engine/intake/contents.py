"""A source's fingerprint, made by the workers of a cluster where it takes much reading.

Each worker hashes files, or the pictures that the records of a piece name; the pairs meet on scratch, where one worker
makes the fingerprint of them: the driver is told that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from data_engine.blocks import Parts, over
from data_engine.intake.placing import placed_pieces
from data_engine.sources.merged import parts_of
from data_engine.sources.places import pairs_fingerprint
from data_engine.sources.table import Table

if TYPE_CHECKING:
    import polars as pl

    from data_engine.runners.protocol import Runner
    from data_engine.sources.base import Source
    from data_engine.sources.contents import Contents
    from shared.store import Store


@dataclass(frozen=True)
class _Job:
    """What a worker that hashes is told."""

    parts: Parts
    contents: Sequence[Contents]


def hash_contents(source: Source, runner: Runner, scratch: Callable[[], AbstractContextManager[Store]]) -> None:
    """Let a cluster's workers hash what a source is made of, where it is much; its fingerprint is known then.

    Raises:
        InfiMmrError: a file cannot be read.

    """
    tables = (part for part in parts_of(source).values() if isinstance(part, Table) and runner.name == "ray")
    for part in tables:
        contents = part.contents(partial(placed_pieces, part, runner=runner))
        if contents:
            with scratch() as place:
                part.settle(_hashed(contents, runner, place))


def _hashed(contents: Sequence[Contents], runner: Runner, scratch: Store) -> str:
    job = _Job(Parts(scratch, "contents"), contents)
    numbers = range(len(contents))
    for _ in over(runner, _hash, numbers, job, away=True):
        pass
    (told,) = over(runner, _fingerprint, [0], job, away=True)
    return str(told["digest"])


def _hash(number: int, job: _Job) -> dict[str, Any]:
    import polars as pl

    pairs = job.contents[number].pairs()
    names = pl.Series("name", [_bytes(name) for name, _ in pairs], dtype=pl.Binary)
    hashes = pl.Series("hash", [digest for _, digest in pairs], dtype=pl.String)
    pictures = pl.Series("picture", [job.contents[number].pictures] * len(pairs), dtype=pl.Boolean)
    job.parts.write(number, pl.DataFrame([names, hashes, pictures]))
    return {}


def _fingerprint(number: int, job: _Job) -> dict[str, Any]:
    import polars as pl

    del number
    pairs = pl.concat([job.parts.read(one) for one in range(len(job.contents))])
    files, pictures = (
        pairs.filter(~pl.col("picture")),
        pairs.filter("picture").unique("name", keep="last", maintain_order=True),
    )
    # UTF-8 has the order of its characters.
    ordered = pl.concat([files, pictures]).sort("name", "hash")
    return {"digest": pairs_fingerprint(_texts(ordered))}


def _texts(pairs: pl.DataFrame) -> Iterator[tuple[str, str]]:
    for name, digest in pairs.select("name", "hash").iter_rows():
        yield name.decode("utf-8", "surrogatepass"), digest


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
