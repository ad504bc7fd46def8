"""Do builds that lose a worker, a node or their driver at random moments end in the bytes of a build left alone?

A small build of drawn texts (read from several files, answers, ratings and embeddings asked of a stand-in on loopback,
n-grams, duplicates, assemble, shards) is struck at a moment drawn uniformly from its length:

    driver      the process of a local build; the same command goes on where it died
    ray-driver  the process of a build on a cluster; the same command goes on where it died
    worker      a process of the cluster that does something for the build, which goes on by itself
    reader      the same while the source is hashed, counted, read and put in order, at a moment drawn from that part;
                three sources of rows with pictures: in shards, in JSON lines, beside them
    node        the raylet of one of two nodes, which goes with all its workers; the build goes on by itself
    own-node    the raylet of the node that the driver sits on: Ray ends the driver with it, and on another cluster the
                same command goes on where it died

Version, shards, ledger, findings and all that a manifest says of the rows must be those of a local build in one block
that nobody disturbed; nothing may stay on scratch. Blocks are cut to a few rows, so that all that travels in blocks
does. A kill that finds its build done does not count and another moment is drawn.

    python benchmarks/kills.py [--kills 40] [--seed 0] [--only KIND ...]     writes results/kills.json and kills.md

Results are written when a kind is done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
from kills_world import BLOCK_ROWS, PICTURED_ROWS, ROWS, World  # noqa: E402
from kills_world import opened_world as _opened_world  # noqa: E402
from ray_nodes import add_node, start_cluster  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("driver", "ray-driver", "worker", "reader", "node", "own-node")
STARTED_AGAIN = ("driver", "ray-driver", "own-node")
"""Kinds whose builds end; the same command is used again."""
IDLE = ("ray::IDLE", "ray::Dashboard", "ray::RuntimeEnv")
"""Titles of Ray's processes that do nothing for a build."""
READING = ("_hash", "_fingerprint", "_count_piece", "_read_piece", "_pick_twice", "_settle_bucket", "_sort_block")
"""Titles of tasks of a source: `intake.contents`, then `intake.in_blocks`."""
PROGRAM = Path(__file__).with_name("kills_driver.py")
RESULTS = Path(__file__).parent / "results"
PATIENCE = 300.0
"""Seconds after which a build that has not ended is called hung; a usual one takes some ten."""
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
"""How soon a cluster notices a lost node; Ray's own seconds would be most of what a kill costs here."""


class Driver:
    """A process that builds: it reads a store's folder per line and answers with a line, the version or an error.

    Everything is imported before it says that it is ready, so that moments are those of a build.
    """

    def __init__(self, world: World, runner: str, log: Path, *, blocks: int = BLOCK_ROWS, address: str = "") -> None:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {"RAY_ADDRESS": address} if address else {}
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(world.recipe), runner, str(blocks)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, start_new_session=True,
        )  # fmt: skip
        self._ready = False

    def wait_ready(self) -> None:
        """Return once all is imported."""
        if not self._ready:
            self._line()
            self._ready = True

    def start(self, store: Path) -> None:
        """Begin a build."""
        assert self._process.stdin
        self.wait_ready()
        self._process.stdin.write(f"{store}\n".encode())
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """What the build gave."""
        told: dict[str, Any] = json.loads(self._line())
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def done(self, seconds: float) -> bool:
        """Whether the build ends within so many seconds."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout.fileno()], [], [], max(seconds, 0))[0])

    def kill(self) -> None:
        """End its whole group at once, as a lost machine does."""
        if self._log.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._log.close()

    def _line(self) -> bytes:
        assert self._process.stdout
        if not self.done(PATIENCE):
            raise RuntimeError(f"no end after {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a driver ended by itself: {Path(self._log.name).read_text()[-2000:]}")
        return line


def cells(store: Path) -> dict[str, str]:
    """Hash of the distinct cells of each annotation table, the findings among them."""
    import hashlib

    import pyarrow.parquet as pq

    tables: dict[str, set[str]] = {}
    for file in (store / "annotations").rglob("*.parquet"):
        step, context = file.relative_to(store / "annotations").parts[:2]
        rows = pq.ParquetFile(file).read().to_pylist()
        tables.setdefault(f"{step}/{context}", set()).update(
            json.dumps(row, sort_keys=True, default=str) for row in rows
        )
    return {name: hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest() for name, rows in tables.items()}


def differences(world: World, store: Path, found: dict[str, Any], *, again: bool = False) -> list[str]:
    """What is not as in the undisturbed build, in words; a store with nothing of that kind is removed.

    `again`: the command was used twice, so that the second one found cells which the first had stored.
    """
    from shared.dataset_version import list_datasets

    found = found | {"cells": cells(store)} | ({"cells of steps": world.reference["cells of steps"]} if again else {})
    differs = [name for name, value in world.reference.items() if found.get(name) != value]
    versions = list_datasets(str(store))
    if len(versions) != 1:
        differs.append(f"{len(versions)} versions")
    if not all(version.verify(images=True).ok for version in versions):
        differs.append("damaged files")
    if (store / "scratch").exists():
        differs.append("scratch that stayed")
    if not differs:
        shutil.rmtree(store)
    return differs


class Field:
    """Where builds of one kind run and are struck.

    Args:
        world: What all builds share.
        kind: One of `KINDS`.

    """

    def __init__(self, world: World, kind: str) -> None:
        self.world, self.kind = world, kind
        self.runner = "local" if kind == "driver" else "ray"
        self.cluster: Any = None
        self.second: Any = None
        self.open()
        self.usual = 0.0

    def open(self) -> None:
        """Start the cluster, where there is one, and a process that will build there."""
        if self.runner == "ray":
            self.cluster = start_cluster(_system_config=QUICK)
            self.second = add_node(self.cluster)
        self.spare = self.driver()

    def driver(self) -> Driver:
        """A process that will build."""
        log = self.world.folder / f"{self.kind}.log"
        return Driver(self.world, self.runner, log, address=self.cluster.address if self.cluster else "")

    def calibrate(self) -> None:
        """Learn how long a build lasts here, or its reading; a first one warms up what is loaded once."""
        for _ in range(1 if self.kind in STARTED_AGAIN else 2):
            found, store = self.driver_now(), self.world.store()
            started = time.monotonic()
            found.start(store)
            self.usual = seconds_of_reading(found) if self.kind == "reader" else 0.0
            told = found.result()
            self.usual = self.usual or time.monotonic() - started
            assert not (differs := differences(self.world, store, told)), f"undisturbed, yet other: {differs}"
            if self.kind in STARTED_AGAIN:
                found.kill()

    def driver_now(self) -> Driver:
        """The process that builds next: a fresh one where drivers are struck, else always the same."""
        if self.kind not in STARTED_AGAIN:
            return self.spare
        now, self.spare = self.spare, self.driver()
        return now

    def strike(self) -> dict[str, Any] | None:
        """One build, one kill; None where the build was done before."""
        moment, store = self.world.drawn.random(), self.world.store()
        building = self.driver_now()
        building.wait_ready()
        started = time.monotonic()
        building.start(store)
        begun = self.kind != "reader" or begins_to_read(building)
        victim = self.kill(building) if begun and not building.done(moment * self.usual) else ""
        after = time.monotonic() - started
        told: dict[str, Any] = {"moment": round(moment, 4), "seconds": round(after, 2), "victim": victim}
        try:
            if victim and self.kind in STARTED_AGAIN:
                building = self.driver_now()
                building.start(store)
            found = building.result()
        except RuntimeError as error:
            self.spare.kill()
            self.spare = self.driver()
            return told | {"differs": [str(error)]}
        finally:
            if building is not self.spare:
                building.kill()
        if not victim and self.kind == "reader":
            self.usual *= 0.9
        elif not victim:
            self.usual = 0.5 * (self.usual + after)
        differs = differences(self.world, store, found, again=bool(victim) and self.kind in STARTED_AGAIN)
        return told | {"differs": differs} if victim or differs else None

    def kill(self, building: Driver) -> str:
        """End the victim of this kind; returns what it was, empty where there was none until the build was done."""
        if self.kind.endswith("driver"):
            building.kill()
            return "driver"
        if self.kind == "own-node":
            (raylet,) = self.cluster.head_node.all_processes["raylet"]
            raylet.process.kill()
            ended = building.done(PATIENCE)
            building.kill()
            self.close()
            self.open()
            return "the node of the driver" if ended else ""
        if self.kind == "node":
            self.cluster.remove_node(self.second, allow_graceful=False)
            at_once = self.world.drawn.random() < 0.5
            if not at_once:
                building.done(PATIENCE)
            self.second = add_node(self.cluster)
            return "node, replaced at once" if at_once else "node, replaced afterwards"
        while not building.done(0.003):
            busy = workers(READING if self.kind == "reader" else ())
            if busy:
                process, title = self.world.drawn.choice(busy)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    return title
        return ""

    def close(self) -> None:
        """End all processes."""
        self.spare.kill()
        if self.cluster is not None:
            self.cluster.shutdown()


def workers(titles: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Process id and title of workers of our clusters that do something now, one of `titles` where some are given."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = (process.cmdline() or [""])[0]
            if title.startswith("ray::") and not title.startswith(IDLE):
                name = title.removeprefix("ray::").split()[0]
                found += [(process.pid, name)] if name in titles or not titles else []
    return sorted(found)


def begins_to_read(building: Driver) -> bool:
    """Wait until workers have the source in hand; False where the build is done before."""
    while not workers(READING):
        if building.done(0.003):
            return False
    return True


def seconds_of_reading(building: Driver) -> float:
    """Follow a build: seconds between the first and the last moment at which workers have the source in hand."""
    assert begins_to_read(building), "no worker was seen that reads the source"
    first = last = time.monotonic()
    while not building.done(0.003):
        if workers(READING):
            last = time.monotonic()
    return last - first


@contextlib.contextmanager
def opened_world(folder: Path, seed: int, kind: str) -> Iterator[World]:
    """The world of a kind, and what a build there gives that nobody disturbs, on this machine and in one block."""

    def undisturbed(world: World) -> dict[str, Any]:
        driver, store = Driver(world, "local", folder / "reference.log", blocks=2**15), world.store()
        driver.start(store)
        told = driver.result() | {"cells": cells(store)}
        driver.kill()
        return told

    with _opened_world(folder, seed, undisturbed, pictured=kind == "reader") as world:
        yield world


def struck(world: World, kind: str, kills: int, say: Any = print) -> list[dict[str, Any]]:
    """So many kills of one kind."""
    found: list[dict[str, Any]] = []
    field = Field(world, kind)
    try:
        field.calibrate()
        while len(found) < kills:
            one = field.strike()
            if one is not None:
                found.append(one)
                say(f"{kind} {len(found)}/{kills} {one}")
    finally:
        field.close()
    return found


def main() -> None:
    """All kinds, one after the other; kinds that are not asked for keep what stands in the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    from machine import machine

    results = RESULTS / "kills.json"
    kept = json.loads(results.read_text())["kinds"] if results.exists() else {}
    for kind in options.only:
        with (
            tempfile.TemporaryDirectory(prefix="kills-") as folder,
            opened_world(Path(folder), options.seed, kind) as world,
        ):
            kept[kind] = summary(struck(world, kind, options.kills, lambda line: print(line, flush=True)), options.seed)
        made = {"machine": machine(), "kinds": {name: kept[name] for name in KINDS if name in kept}}
        results.write_text(json.dumps(made, indent=1) + "\n")
        results.with_suffix(".md").write_text(page(made))


def summary(found: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Counts, and each kill."""
    from shared.provenance import code_commit

    equal = sum(not one["differs"] for one in found)
    return {"commit": code_commit()[:12], "seed": seed, "kills": len(found), "equal": equal, "struck": found}


def page(made: dict[str, Any]) -> str:
    """The counts as a page."""
    from collections import Counter

    machine = made["machine"]
    told = (
        f"`benchmarks/kills.py` on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GB, Python",
        f"{machine['python']}: {ROWS} drawn rows in blocks of {BLOCK_ROWS}, all text steps, ratings and embeddings",
        f"asked of a stand-in on loopback; for `reader` {PICTURED_ROWS} rows with pictures from three sources, struck",
        "while these are read. Equal: version, shards, ledger, findings, every stored cell and what the manifest says",
        "of the rows are those of an undisturbed local build in one block; no scratch stays.",
    )
    lines = [
        "# Builds that lost a worker, a node or their driver at random moments",
        "",
        " ".join(told),
        "",
        "| lost | kills | equal | what was struck | commit |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for kind, one in made["kinds"].items():
        victims = Counter(each["victim"] for each in one["struck"])
        struck = ", ".join(f"{count} {victim}" for victim, count in victims.most_common())
        lines.append(f"| {kind} | {one['kills']} | {one['equal']} | {struck} | {one['commit'] or '?'} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
