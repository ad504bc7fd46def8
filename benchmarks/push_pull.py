"""How fast is push and pull against a plain parallel copy of the same files, and how little does a small change send?

    python benchmarks/push_pull.py --gigabytes 5 --folder /some/disk

Made: shards of incompressible pictures (100 kB each, rows as in the real schema, captions of 70 words). Measured in one
run, alternating, so that both meet the same machine: a plain copy of the shard files (`shutil.copyfile`) with as many
processes as a push has threads, each file flushed to the disk (as push does: a version that is listed survives a power
cut), against push and pull between two folder stores, a copy right before each; and raw puts and gets of the same files
with obstore against push and pull, through an S3 server on loopback. Then each caption is rewritten, the version
published again and pushed. Nothing stays behind.

Push and pull also hash every byte, which a copy does not. Where the disk is the limit, that costs no time; where the
processor is (a fast disk, or other work on the machine), it does: so each round's load is written down, and the
processor's seconds of each peer.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import machine
from benchmarks.s3_server import s3_server
from benchmarks.sample_versions import draft, row
from data_engine.sharing.catalogue import transfer
from shared.dataset_version import DatasetVersion, open_dataset, publish
from shared.dataset_version.blobs import PARALLEL_FILES
from shared.schema import ROW_SCHEMA
from shared.store import Store, open_store

if TYPE_CHECKING:
    import obstore

PICTURE_BYTES = 100_000
CAPTION_WORDS = 70
SHARD_ROWS = 4_000
GROUP_ROWS = 400
RESULT = Path(__file__).parent / "results" / "push_pull.json"


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the dataset for the folders")
    parser.add_argument(
        "--bucket-gigabytes", type=float, default=0.5, help="size for the S3 server, which is in memory"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--version", help="a version built from real rows (NAME@V in --store); else kept")
    parser.add_argument("--store", help="where that version is")
    parser.add_argument("--only-version", action="store_true", help="measure the real version only, keep the rest")
    options = parser.parse_args()
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory(prefix="push-pull-", dir=options.folder) as scratch:
        result: dict[str, object] = before | {"machine": machine()}
        if options.version:
            result["real_rows"] = real_rows(Path(scratch), open_dataset(options.version, options.store))
        if not options.only_version:
            result["folders"] = folders(Path(scratch), options.gigabytes, options.rounds)
            write(result)
            result["bucket"] = bucket(Path(scratch), options.bucket_gigabytes, options.rounds)
        write(result)
    sys.stdout.write(RESULT.read_text())


def write(result: dict[str, object]) -> None:
    """Write what is known so far; load averages tell how busy the machine was."""
    RESULT.write_text(json.dumps(result | {"load_average": os.getloadavg()}, indent=1) + "\n")


def folders(scratch: Path, gigabytes: float, rounds: int) -> dict[str, object]:
    """Compare push and pull between folder stores with a plain parallel copy; then change the captions."""
    here = open_store(scratch / "here")
    total = made(here, scratch, gigabytes, seed=1)
    files = open_dataset("sample@v1", here).files()
    seconds: dict[str, list[float]] = {"copy": [], "push": [], "pull": []}
    processor: dict[str, list[float]] = {"copy": [], "push": [], "pull": []}
    of_plain: dict[str, list[float]] = {"push": [], "pull": []}
    load = []
    for _ in range(rounds):
        for direction in ("push", "pull"):
            load.append(round(os.getloadavg()[0], 1))
            with concurrent.futures.ProcessPoolExecutor(PARALLEL_FILES) as pool:
                list(pool.map(time.sleep, [0.05] * PARALLEL_FILES))
                with timed(seconds["copy"], scratch / "copied"):
                    (scratch / "copied").mkdir()
                    spent = list(pool.map(plain_copy, files, [scratch / "copied" / file.name for file in files]))
                processor["copy"].append(round(sum(spent), 2))
            started = time.process_time()
            with timed(seconds[direction], scratch / "there"):
                transfer("sample@v1", here, open_store(scratch / "there"))
            processor[direction].append(round(time.process_time() - started, 2))
            of_plain[direction].append(round(seconds["copy"][-1] / seconds[direction][-1], 3))
    there = open_store(scratch / "there")
    transfer("sample@v1", here, there)
    again(here, scratch, files)
    started = time.monotonic()
    done = transfer("sample@v2", here, there)
    seconds_changed = time.monotonic() - started
    sound = open_dataset("sample@v2", there).verify().ok
    shutil.rmtree(scratch / "here")
    shutil.rmtree(scratch / "there")
    more = both_ways(seconds) | {"of_plain_right_before": of_plain, "processor_seconds": processor, "load_before": load}
    return summary(seconds, total, "copy") | more | changed(done, seconds_changed, sound=sound)


def bucket(scratch: Path, gigabytes: float, rounds: int) -> dict[str, object]:
    """Compare push to and pull from an S3 server on loopback with plain parallel puts and gets of the same files."""
    import obstore

    here = open_store(scratch / "here")
    total = made(here, scratch, gigabytes, seed=1)
    files = open_dataset("sample@v1", here).files()
    seconds: dict[str, list[float]] = {"put": [], "push": [], "get": [], "pull": []}
    with s3_server() as url:
        for number in range(rounds):
            raw = obstore.store.from_url(f"{url}/raw{number}", client_options={"allow_http": True, "timeout": "180s"})
            there = open_store(f"{url}/store{number}")

            def put(file: Path, raw: object = raw) -> None:
                obstore.put(raw, file.name, file, chunk_size=16 << 20, max_concurrency=4)

            def get(file: Path, raw: object = raw) -> None:
                with (scratch / "copied" / file.name).open("wb", buffering=0) as out:
                    for piece in obstore.get(raw, file.name).stream(min_chunk_size=8 << 20):
                        out.write(piece)
                    os.fsync(out.fileno())

            with concurrent.futures.ThreadPoolExecutor(PARALLEL_FILES) as pool:
                with timed(seconds["put"]):
                    list(pool.map(put, files))
                with timed(seconds["get"], scratch / "copied"):
                    (scratch / "copied").mkdir()
                    list(pool.map(get, files))
                emptied(raw)  # the server keeps everything in memory
                with timed(seconds["push"]):
                    transfer("sample@v1", here, there)
                with timed(seconds["pull"], scratch / "pulled"):
                    transfer("sample@v1", there, open_store(scratch / "pulled"))
            if number < rounds - 1:
                emptied(obstore.store.from_url(there.url, client_options={"allow_http": True}))
        again(here, scratch, files)
        started = time.monotonic()
        done = transfer("sample@v2", here, there)
        sound = open_dataset("sample@v2", there).verify().ok
    found = changed(done, time.monotonic() - started, sound=sound)
    return summary(seconds, total, "put", "get") | found


def emptied(bucket: obstore.store.BucketStore) -> None:
    """Delete all that lies in a bucket."""
    import obstore

    for batch in obstore.list(bucket):
        obstore.delete(bucket, [entry["path"] for entry in batch])


def real_rows(scratch: Path, version: DatasetVersion) -> dict[str, object]:
    """Give every picture of a built version a caption, push it, give it another caption, push again."""
    here, there = open_store(scratch / "here"), open_store(scratch / "there")
    for seed in (1, 2):
        again(here, scratch, version.files(), seed)
        started = time.monotonic()
        done = transfer(f"sample@v{seed}", here, there)
    seconds = time.monotonic() - started
    sound = open_dataset("sample@v2", there).verify().ok
    shutil.rmtree(scratch / "here")
    shutil.rmtree(scratch / "there")
    return {"rows": version.manifest.rows} | changed(done, seconds, sound=sound)


def again(store: Store, scratch: Path, files: list[Path], seed: int = 2) -> None:
    """Publish the rows of these shards with other captions as the next version."""
    words = random.Random(seed)
    written = [scratch / f"train-{number:05d}.parquet" for number in range(len(files))]
    for old, new in zip(files, written, strict=True):
        recaptioned(old, new, words)
    publish(store, draft(recipe={"caption": seed}), written)
    for file in written:
        file.unlink()


def recaptioned(source: Path, target: Path, words: random.Random) -> None:
    """Write a shard again, same row groups, as the build writes it: only the captions are others."""
    place = ROW_SCHEMA.get_field_index("captions")
    with pq.ParquetFile(source) as old:
        leaves = [old.schema.column(number).path for number in range(len(old.schema))]
        compression = {leaf: "none" if leaf == "images.list.element.bytes" else "zstd" for leaf in leaves}
        with pq.ParquetWriter(target, ROW_SCHEMA, compression=compression, use_dictionary=False) as new:
            for group in range(old.metadata.num_row_groups):
                table = old.read_row_group(group)
                captions = [
                    [" ".join(f"word{words.randrange(5000)}" for _ in range(CAPTION_WORDS)) for _ in pictures]
                    for pictures in table["image_hashes"].to_pylist()
                ]
                column = pa.array(captions, ROW_SCHEMA.field("captions").type)
                new.write_table(table.set_column(place, ROW_SCHEMA.field(place), column).cast(ROW_SCHEMA))


def made(store: Store, scratch: Path, gigabytes: float, seed: int) -> int:
    """Publish a version whose pictures are the same for every seed and whose captions are not; return its bytes."""
    rows = max(GROUP_ROWS, int(gigabytes * 1e9 / PICTURE_BYTES))
    files = []
    for first in range(0, rows, SHARD_ROWS):
        file = scratch / f"train-{first // SHARD_ROWS:05d}.parquet"
        with pq.ParquetWriter(
            file, ROW_SCHEMA, compression={"images.list.element.bytes": "none"}, use_dictionary=False
        ) as writer:
            for start in range(first, min(first + SHARD_ROWS, rows), GROUP_ROWS):
                group = [
                    made_row(number, seed) for number in range(start, min(start + GROUP_ROWS, first + SHARD_ROWS, rows))
                ]
                writer.write_table(pa.Table.from_pylist(group, schema=ROW_SCHEMA))
        files.append(file)
    version = publish(store, draft(recipe={"caption": seed}), files)
    for file in files:
        file.unlink()
    return version.manifest.bytes


def made_row(number: int, seed: int) -> dict[str, object]:
    """Return a row whose picture is noise of the row's number and whose caption is words of number and seed."""
    words = random.Random(number * 31 + seed)
    caption = " ".join(f"word{words.randrange(5000)}" for _ in range(CAPTION_WORDS))
    picture = random.Random(number).randbytes(PICTURE_BYTES)
    changes = {"images": [{"bytes": picture, "path": f"{number}.png"}], "captions": [caption]}
    return row(number, side=1, **changes, image_hashes=[hashlib.sha256(picture).hexdigest()])


def plain_copy(source: Path, target: Path) -> float:
    """Copy a file and flush it, with the fastest call that there is; return the processor's seconds."""
    started = time.process_time()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return time.process_time() - started


class timed:  # noqa: N801  (reads as a statement)
    """Add the seconds of a block to a list; remove a folder afterwards, outside the measurement."""

    def __init__(self, seconds: list[float], folder: Path | None = None) -> None:
        self.seconds, self.folder = seconds, folder

    def __enter__(self) -> None:
        os.sync()
        self.started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds.append(time.monotonic() - self.started)
        if self.folder is not None:
            shutil.rmtree(self.folder)


def summary(seconds: dict[str, list[float]], total: int, sends: str, receives: str | None = None) -> dict[str, object]:
    """Return median speeds and the ratios to the plain transfer."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "bytes": total,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "megabytes_per_second": {name: round(total / value / 1e6) for name, value in median.items()},
        "push_of_plain": round(median[sends] / median["push"], 3),
        "pull_of_plain": round(median[receives or sends] / median["pull"], 3),
    }


def both_ways(seconds: dict[str, list[float]]) -> dict[str, object]:
    """Return the ratio for push and pull together: between two folders they are one operation, timed twice as often."""
    copies, transfers = seconds["copy"], [*seconds["push"], *seconds["pull"]]
    return {
        "both_of_plain_by_total": round(sum(copies) / sum(transfers), 3),
        "both_of_plain_by_median": round(statistics.median(copies) / statistics.median(transfers), 3),
    }


def changed(done: dict[str, object], seconds: float, *, sound: bool) -> dict[str, object]:
    """Return what a push sent after every caption changed."""
    share = float(str(done["bytes_sent"])) / float(str(done["bytes"]))
    return {
        "new_captions": {
            "bytes": done["bytes"],
            "bytes_sent": done["bytes_sent"],
            "share_sent": round(share, 4),
            "seconds": round(seconds, 2),
            "verified": sound,
        }
    }


if __name__ == "__main__":
    main()
