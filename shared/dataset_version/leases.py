"""Leases: how `gc` knows that somebody is writing, on a folder and in a bucket alike.

A publisher writes ``leases/<id>.json`` before its first blob and renews it while it works; `gc` writes
``leases/gc.json`` before it looks. Each then looks for the other: whoever comes second sees the first, so a publisher
waits for a running `gc`, and `gc` removes nothing while somebody publishes. A lease dies with its process (same
machine) or when it is no longer renewed (another machine), so a killed publisher blocks nobody for long.

A build holds ``leases/builds/<its key>-<id>.json`` while it writes what `gc` removes unless a version needs it. Such a
lease stops no `gc`: it keeps what lies under its key.

Not covered: machines whose clocks differ by more than `TOLERANCE_SECONDS`.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.store import Store

LEASE_SECONDS = 600.0
"""A lease that was not renewed for this long is dead; renewal comes ten times as often."""
TOLERANCE_SECONDS = 120.0
GC_LEASE = "leases/gc.json"
_BUILDS = "leases/builds/"
_WAIT_SECONDS = 0.2


class Lease:
    """A lease held by this process; `check` before the step that makes the work visible."""

    def __init__(self, store: Store, path: str) -> None:
        """Hold `path` from now on."""
        self.store = store
        self.path = path
        self.started = time.time()
        self.renewed = self.started

    def content(self, now: float = 0.0) -> bytes:
        """Return what is written: who holds it, and since when, until when; `now` renews it."""
        renewed = now or self.renewed
        held = {"holder": _holder(), "pid": os.getpid(), "started": self.started, "renewed": renewed}
        return json.dumps(held | {"expires": renewed + LEASE_SECONDS}).encode()

    def renew(self) -> None:
        """Say that the work goes on."""
        now = time.time()
        self.store.put(self.path, self.content(now), durable=False)
        self.renewed = now

    def check(self) -> None:
        """Raise if the lease may have lapsed meanwhile (a suspended machine), so that gc may have taken the blobs."""
        if time.time() > self.renewed + LEASE_SECONDS - TOLERANCE_SECONDS:
            raise InfiMmrError(f"publishing to {self.store.url} was interrupted for too long", "Run it again")


@contextmanager
def holding(store: Store, path: str) -> Iterator[Lease]:
    """Hold a lease at `path`, written at once, renewed meanwhile and removed at the end."""
    lease = Lease(store, path)
    lease.renew()
    with _kept(lease):
        yield lease


@contextmanager
def publishing(store: Store) -> Iterator[Lease]:
    """Hold a lease while writing blobs and claiming a version; waits while `gc` removes."""
    with holding(store, f"leases/{uuid.uuid4().hex}.json") as lease:
        _wait_for_gc(store)
        yield lease


@contextmanager
def building(store: Store, build_key: str) -> Iterator[None]:
    """Hold a lease on what lies under a build's key until its version is there; waits while `gc` removes."""
    with holding(store, f"{_BUILDS}{build_key}-{uuid.uuid4().hex}.json"):
        _wait_for_gc(store)
        yield


def builders(store: Store) -> dict[str, bool]:
    """Build keys that leases name, and whether a build of that key still runs."""
    found: dict[str, bool] = {}
    for entry in list(store.list(_BUILDS)):
        key = entry.path.removeprefix(_BUILDS).partition("-")[0]
        held = read_lease(store, entry.path)
        found[key] = found.get(key, False) or (held is not None and not is_dead(held))
    return found


def _wait_for_gc(store: Store) -> None:
    while (held := read_lease(store, GC_LEASE)) and not is_dead(held):
        time.sleep(_WAIT_SECONDS)


@contextmanager
def collecting(store: Store) -> Iterator[list[dict[str, float]]]:
    """Hold the lease of `gc`; yields the dead leases. Raises `InfiMmrError` if somebody publishes or collects."""
    lease = Lease(store, GC_LEASE)
    old = store.find(GC_LEASE)
    free = old is None or is_dead(_parsed(old))
    if not free or not store.compare_and_set(GC_LEASE, old, lease.content()):
        raise InfiMmrError(f"another gc works on {store.url}", "Wait until it is done")
    with _kept(lease):
        dead = []
        for entry in list(store.list("leases")):
            other = entry.path == GC_LEASE or entry.path.startswith(_BUILDS)
            held = None if other else read_lease(store, entry.path)
            if held is None:
                continue
            if not is_dead(held):
                minutes = max(0.0, (float(held["expires"]) - time.time()) / 60)
                message = f"somebody publishes to {store.url} (their lease runs {minutes:.0f} minutes more)"
                raise InfiMmrError(message, "Run gc again when they are done")
            dead.append({"started": float(held["started"]), "expires": float(held["expires"])})
        yield dead


@contextmanager
def _kept(lease: Lease) -> Iterator[None]:
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_SECONDS / 10):
            with suppress(InfiMmrError):  # the store may be back at the next turn, long before the lease is dead
                lease.renew()

    renewer = threading.Thread(target=renew, daemon=True)
    renewer.start()
    try:
        yield
    finally:
        stop.set()
        renewer.join()
        lease.store.delete(lease.path)


def remove_dead_leases(store: Store) -> None:
    """Remove the leases whose holder is gone."""
    for entry in list(store.list("leases")):
        held = read_lease(store, entry.path)
        if held is not None and entry.path != GC_LEASE and is_dead(held):
            store.delete(entry.path)


def read_lease(store: Store, path: str) -> dict[str, float | str] | None:
    """Return a lease's content, or None where it is gone."""
    content = store.find(path)
    return None if content is None else _parsed(content)


def _parsed(content: bytes) -> dict[str, float | str]:
    """Read a lease; one that cannot be read counts as expired long ago."""
    try:
        held = json.loads(content)
        return {
            "holder": str(held["holder"]),
            "pid": int(held["pid"]),
            "started": float(held["started"]),
            "expires": float(held["expires"]),
        }
    except (ValueError, KeyError, TypeError):
        return {"holder": "", "pid": 0, "started": 0.0, "expires": 0.0}


def is_dead(held: dict[str, float | str]) -> bool:
    """Return whether a lease's holder is gone: its process on this machine, or its time anywhere."""
    if time.time() > float(held["expires"]) + TOLERANCE_SECONDS:
        return True
    if held["holder"] != _holder():
        return False
    try:
        os.kill(int(held["pid"]), 0)
    except OSError as error:  # any other: it is there, and somebody else's
        return isinstance(error, ProcessLookupError)
    return False


def _holder() -> str:
    """Return a hash that is equal for processes which see each other's process numbers; it tells no host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes_hash(f"{boot}{Path('/proc/self/ns/pid').readlink()}".encode())[:16]
    except OSError:
        return uuid.uuid4().hex
