"""Pictures by their sha256, wherever they lie: in files of a source, inside its shards, or in a spool on scratch.

Input: places noted while a source is read. Output: original bytes on demand, so that no step or shard ever needs all
pictures in memory. Who reads a piece of a source notes its pictures in `NewPlaces`, and leaves what came inside records
in files on the build's scratch. These places are sorted by hash, in as many files as the source has row blocks, and
looked up there: `ImagePlaces` pickles as the name of these files, and holds only what was added to it itself (items of
benchmarks, in a spool file of its own). Workers on this machine or on a shared file system read for themselves.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from data_engine.blocks import Parts
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from shared.store import Store

FOLDER = "image_places"
SPOOL_BYTES = 16 << 20
"""Pictures that came inside records are put on scratch together, so many bytes at a time."""

_WHOLE = -1


class Place(NamedTuple):
    """Where a picture lies.

    Attributes:
        folder: Of the file; empty where `name` is a file of the scratch.
        name: Of the file.
        offset: First byte in the file; -1 where the file is the picture.
        size: Bytes.

    """

    folder: str
    name: str
    offset: int
    size: int


class NewPlaces:
    """Places of the pictures of one piece of a source, while it is read.

    Args:
        scratch: Where pictures that came inside records are kept.
        number: Of the piece; whoever reads it again writes the same files.

    """

    def __init__(self, scratch: Store, number: int) -> None:
        self._scratch, self._number, self._chunk = scratch, number, 0
        self._places: dict[str, Place] = {}
        self._held: list[bytes] = []
        self._end = 0

    def add_file(self, sha256: str, path: Path, size: int) -> None:
        """Note a picture that is a file."""
        self._places.setdefault(sha256, Place(str(path.parent), path.name, _WHOLE, size))

    def add_part(self, sha256: str, path: Path, offset: int, size: int) -> None:
        """Note a picture that lies within a file."""
        self._places.setdefault(sha256, Place(str(path.parent), path.name, offset, size))

    def add_bytes(self, sha256: str, data: bytes) -> None:
        """Keep a picture on scratch, once."""
        if sha256 in self._places:
            return
        self._places[sha256] = Place("", self._spool(), self._end, len(data))
        self._held.append(data)
        self._end += len(data)
        if self._end >= SPOOL_BYTES:
            self._put()

    def taken(self, inspected: Mapping[str, bool]) -> pl.DataFrame | None:
        """All places as rows, and what was inspected (True) or remembered; None where there is nothing. Begins anew."""
        import polars as pl

        if self._held:
            self._put()
        keys = sorted(self._places.keys() | inspected.keys())
        if not keys:
            return None
        none = Place(None, None, 0, 0)  # type: ignore[arg-type]  # refused: nobody will read it
        places = [self._places.get(key, none) for key in keys]
        self._places = {}
        columns = dict(zip(Place._fields, zip(*places, strict=True), strict=True))
        schema = {"folder": pl.String, "name": pl.String, "offset": pl.Int64, "size": pl.Int64}
        frame = pl.DataFrame(columns, schema=schema)
        return frame.with_columns(
            sha256=pl.Series([bytes.fromhex(key) for key in keys], dtype=pl.Binary),
            inspected=pl.Series([inspected.get(key, False) for key in keys], dtype=pl.Boolean),
        )

    def _spool(self) -> str:
        return f"spool/{self._number:06d}-{self._chunk:06d}"

    def _put(self) -> None:
        self._scratch.put(self._spool(), b"".join(self._held), durable=False)
        self._held, self._end = [], 0
        self._chunk += 1


def bucket_of(keys: pl.Series, count: int) -> np.ndarray:
    """File of the places of each sha256 (Binary), of `count`, a power of two: int64 [keys]."""
    first = np.frombuffer(b"".join(keys.to_list()), ">u8")[::4].astype(np.uint64)
    bits = count.bit_length() - 1
    return (first >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(first), np.int64)


def write_places(scratch: Store, bucket: int, rows: pl.DataFrame) -> dict[str, int]:
    """Write the places of one bucket, each picture once; counts of pictures, of those inspected and remembered."""
    import polars as pl
    import pyarrow as pa

    news = rows.group_by("sha256").agg(pl.col("inspected").any())["inspected"]
    found = rows.drop("inspected").drop_nulls("folder").unique("sha256", keep="first", maintain_order=True)
    found = found.sort("sha256")
    table = pa.table({
        "sha256": pa.array(found["sha256"].to_list(), pa.binary(32)),
        "folder": pa.array(found["folder"].to_list(), pa.string()).dictionary_encode(),
        "name": pa.array(found["name"].to_list(), pa.string()),
        "offset": pa.array(found["offset"].to_list(), pa.int64()),
        "size": pa.array(found["size"].to_list(), pa.int64()),
    })  # fmt: skip
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as writer:  # not packed: it is searched where it lies
        writer.write_table(table)
    scratch.put(Parts(scratch, FOLDER).path(bucket), out.getvalue().to_pybytes(), durable=False)
    inspected = int(news.sum())
    return {"pictures": found.height, "inspected": inspected, "remembered": len(news) - inspected}


@dataclass(frozen=True)
class PlaceFiles:
    """The files that `write_places` wrote.

    Attributes:
        scratch: Where they lie.
        buckets: How many, a power of two.
        count: Pictures in all.
        shared: Whether whoever reads `scratch` reaches the pictures, too.

    """

    scratch: Store
    buckets: int
    count: int
    shared: bool


class ImagePlaces:
    """An `ImageSource` (see `shared.images`) over files, shards and spools."""

    def __init__(self, spool: Path) -> None:
        self._spool_path = spool
        self._places: dict[str, Place] = {}
        self._files: PlaceFiles | None = None
        self._begin()

    def _begin(self) -> None:
        self._writer: BinaryIO | None = None
        self._end = 0
        self._opened: dict[int, _Bucket] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind."""
        self.flush()
        return {"_spool_path": self._spool_path, "_places": self._places, "_files": self._files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open for reading only."""
        vars(self).update(state)
        self._begin()

    def __len__(self) -> int:
        """Distinct pictures."""
        return len(self._places) + (self._files.count if self._files is not None else 0)

    def __contains__(self, sha256: str) -> bool:
        """Whether a picture is known."""
        return self._place(sha256) is not None

    def looks_in(self, files: PlaceFiles) -> None:
        """Know the pictures of these files, too."""
        self._files = files if files.count else None

    def reaches(self, sha256: str) -> bool:
        """Whether whoever reads the build's scratch can read a picture."""
        found = self._row(sha256)
        if found is None or self._files is None:
            return False
        bucket, row = found
        return self._files.shared or not bucket.table.column("folder")[row].as_py()

    def add_file(self, sha256: str, path: Path, size: int) -> None:
        """Note a picture that is a file."""
        self._places.setdefault(sha256, Place(str(path.parent), path.name, _WHOLE, size))

    def add_part(self, sha256: str, path: Path, offset: int, size: int) -> None:
        """Note a picture that lies within a file."""
        self._places.setdefault(sha256, Place(str(path.parent), path.name, offset, size))

    def add_bytes(self, sha256: str, data: bytes) -> None:
        """Keep a picture in the spool, once."""
        if sha256 in self:
            return
        if self._writer is None:
            self._writer = self._spool_path.open("ab")
        try:
            self._writer.write(data)
        except OSError as error:
            raise InfiMmrError(
                f"cannot keep images in {self._spool_path.parent}: {os.strerror(error.errno or 0)}", "Free some space"
            ) from error
        self._places[sha256] = Place(str(self._spool_path.parent), self._spool_path.name, self._end, len(data))
        self._end += len(data)

    def flush(self) -> None:
        """Make everything spooled readable; adding goes on afterwards."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def size(self, sha256: str) -> int:
        """Length of a picture's encoded bytes."""
        place = self._places.get(sha256)
        if place is not None:
            return place.size
        found = self._row(sha256)
        if found is None:
            raise KeyError(sha256)
        bucket, row = found
        return int(bucket.sizes[row])

    def get(self, sha256: str) -> bytes:
        """Original bytes of a picture.

        Raises:
            InfiMmrError: not among the build's pictures, unreadable, or changed since the source was read.

        """
        place = self._place(sha256)
        if place is None:
            raise InfiMmrError(f"no image with sha256 {sha256[:16]} in this build", "Build again")
        self.flush()
        try:
            data = self._read(place)
        except OSError as error:
            raise InfiMmrError(f"image {place.name} cannot be read: {error.strerror}", "Make it readable") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InfiMmrError(f"image {place.name} changed while it was being built", "Build again when it is at rest")
        return data

    def _read(self, place: Place) -> bytes:
        path = Path(place.folder) / place.name
        if not place.folder:
            assert self._files is not None  # noqa: S101  # its place was found there
            near = self._files.scratch.local_path(place.name)
            if near is None:
                return self._files.scratch.get_range(place.name, place.offset, place.size)
            path = near
        if place.offset == _WHOLE:
            return path.read_bytes()
        with path.open("rb", buffering=0) as file:
            file.seek(place.offset)
            return file.read(place.size)

    def _place(self, sha256: str) -> Place | None:
        place = self._places.get(sha256)
        if place is not None or (found := self._row(sha256)) is None:
            return place
        bucket, row = found
        return Place(*(bucket.table.column(name)[row].as_py() for name in Place._fields))

    def _row(self, sha256: str) -> tuple[_Bucket, int] | None:
        """Where the place of a picture of the source stands."""
        if self._files is None:
            return None
        number = int(sha256[:16], 16) >> (64 - (self._files.buckets.bit_length() - 1))
        bucket = self._opened.get(number)
        if bucket is None:
            bucket = self._opened[number] = _opened(self._files.scratch, number)
        key = bytes.fromhex(sha256).rstrip(b"\0")  # as NumPy gives it back
        row = int(bucket.keys.searchsorted(np.bytes_(key)))
        return (bucket, row) if row < len(bucket.keys) and bucket.keys[row] == key else None


class _Bucket(NamedTuple):
    """One file of places, left where it lies."""

    keys: np.ndarray
    sizes: np.ndarray
    table: pa.Table


def _opened(scratch: Store, number: int) -> _Bucket:
    """One file of places; of a bucket in a temporary file."""
    import pyarrow as pa

    path = Parts(scratch, FOLDER).path(number)
    near = scratch.local_path(path)
    if near is not None:
        table = pa.ipc.open_file(pa.memory_map(str(near))).read_all()
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(scratch.get(path))
            file.flush()
            table = pa.ipc.open_file(pa.memory_map(file.name)).read_all()
    if table.num_rows == 0:
        return _Bucket(np.empty(0, "S32"), np.empty(0, np.int64), table)
    keys = np.frombuffer(table.column("sha256").chunk(0).buffers()[1], "S32", count=table.num_rows)
    return _Bucket(keys, table.column("size").chunk(0).to_numpy(), table)
