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
from pathlib import Path

import pyarrow.parquet as pq

from shared.dataset_version import ManifestDraft, publish


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
    started = time.time()
    child = os.fork()
    if child == 0:
        publish(url, content(-1), files)
        os._exit(0)
    os.waitpid(child, 0)
    # Half of the children die within their first version, the others between or within later ones.
    longest = 2 * (time.time() - started)
    for number in range(times):
        child = os.fork()
        if child == 0:
            for attempt in range(1000):
                publish(url, content(number * 1000 + attempt), [*files, _own_file(files[0], number, attempt)])
            os._exit(0)
        time.sleep(chance.random() * longest)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _own_file(like: Path, number: int, attempt: int) -> Path:
    """Return a shard that nobody else has: new blobs are what a killed publisher leaves behind."""
    own = like.with_name(f"own-{number}-{attempt}.parquet")
    table = pq.read_table(like).slice(0, 1 + attempt % 4)
    pq.write_table(table.replace_schema_metadata({b"number": f"{number}-{attempt}".encode()}), own)
    return own


if __name__ == "__main__":
    mode, where, shard_folder, count = sys.argv[1:]
    shard_files = sorted(Path(shard_folder).glob("train-*.parquet"))
    {"race": race, "kill": kill}[mode](where, shard_files, int(count))
