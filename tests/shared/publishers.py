"""Many publishers at once, or killed at random moments: a program that the tests start.

publishers.py race URL FOLDER N   N processes publish at the same moment; the odd ones all have equal content
publishers.py kill URL FOLDER N   N processes publish new content again and again, each is killed at a random moment
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.dataset_version import ManifestDraft, publish

for late in ("obstore", "obstore.store", "shared.store.bucket", "shared.store.folder", "shared.dataset_version.blobs"):
    # What a publication imports late is here before the fork: a child's time is that of its publication.
    importlib.import_module(late)

OWN_FILES = 600
DATASETS = 10


def content(number: int, name: str = "raced") -> ManifestDraft:
    return ManifestDraft(name=name, profile="local", recipe={"number": number})


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
    for number in range(times):
        # The time is that of a publication now, on a machine as busy as it is now, and with as many versions there.
        if number % 20 == 0:
            started = time.monotonic()
            in_child(partial(publish, url, content(-1 - number, killed_name(number)), files))
            usual = time.monotonic() - started
        child = os.fork()
        if child == 0:
            for attempt in range(1000):
                extra = own[(number * 3 + attempt) % len(own)]
                publish(url, content(number * 1000 + attempt, killed_name(number)), [*files, extra])
            os._exit(0)
        # Some die before their first version is there, others between or within later ones.
        time.sleep(chance.random() * 1.5 * usual)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def killed_name(number: int) -> str:
    """Several datasets: each publication reads all manifests of its own, which should not become what is timed."""
    return f"killed-{number % DATASETS}"


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
