"""Many publishers at once, or killed at random moments: a program that the tests start.

publishers.py race URL FOLDER N   N processes publish at the same moment; the odd ones all have equal content
publishers.py kill URL FOLDER N   N processes publish new content again and again, each is killed at a random moment
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.dataset_version import ManifestDraft, publish

OWN_FILES = 1500


def content(number: int) -> ManifestDraft:
    return ManifestDraft(name="raced", profile="local", recipe={"number": number})


def race(url: str, files: list[Path], processes: int) -> None:
    start = time.time() + 1.0
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            time.sleep(max(0.0, start - time.time()))
            publish(url, content(-1 if number % 2 else number), files)
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    if failed:
        sys.exit(f"{len(failed)} of {processes} publishers failed")


def kill(url: str, files: list[Path], times: int) -> None:
    chance = random.Random(7)
    in_child(lambda: write_own_files(files[0], OWN_FILES))
    own = sorted(files[0].parent.glob("own-*.parquet"))
    # The second of two publications: a child's first one also imports what is imported late.
    in_child(lambda: [publish(url, content(-1 - again), files) for again in range(2)])
    started = time.monotonic()
    in_child(lambda: publish(url, content(-3), files))
    usual = time.monotonic() - started
    for number in range(times):
        child = os.fork()
        if child == 0:
            for attempt in range(1000):
                extra = own[(number * 7 + attempt) % len(own)]
                publish(url, content(number * 1000 + attempt), [*files, extra])
            os._exit(0)
        # Some die before their first version is there, others between or within later ones.
        time.sleep(chance.random() * 2.5 * usual)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def in_child(work: Callable[[], object]) -> None:
    """Do something in a process of its own: this one must start no thread and no connection before it forks."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a publisher failed")


def write_own_files(like: Path, count: int) -> None:
    """Write shards that nobody else has: new blobs are what a killed publisher leaves behind."""
    table = pq.ParquetFile(like).read(use_threads=False)
    place = table.schema.get_field_index("id")
    for number in range(count):
        ids = pa.array([f"own-{number:08x}{row:08x}" for row in range(len(table))])
        own = table.set_column(place, table.schema.field("id"), ids)
        pq.write_table(own, like.with_name(f"own-{number:04d}.parquet"))


if __name__ == "__main__":
    mode, where, shard_folder, count = sys.argv[1:]
    shard_files = sorted(Path(shard_folder).glob("train-*.parquet"))
    {"race": race, "kill": kill}[mode](where, shard_files, int(count))
