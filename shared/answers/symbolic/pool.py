"""Worker processes for the symbolic layer, with a hard deadline per pair.

math-verify keeps its own time limits by SIGALRM, which only works in a main thread, and without them `9^{9^{9^9}}`
never returns. So each worker is a process of its own that the parent kills when the deadline has passed; a new one is
started at once and only that pair is lost. Workers are started as `python -m shared.answers.symbolic.worker`, not
forked and not through multiprocessing, so they work from threads, asyncio (`asyncio.to_thread`), Ray actors and
daemonic processes alike.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

from shared.answers.types import Settlement

MEMORY_BYTES_PER_WORKER = 2 * 2**30
"""Address space of one worker (RLIMIT_AS): sympy needs 0.4 GiB, a runaway factorial ends here."""

MAX_REPLY_BYTES = 4096

LOADING_SECONDS = 120.0
"""How long the first workers of a pool may take to load; a replacement is loaded at the cost of waiting pairs."""


class _Worker:
    """One worker process; used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shared.answers.symbolic.worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            cwd=root,
            start_new_session=True,
        )
        self.ready = False
        self._pending = b""

    def _line(self, deadline: float) -> bytes | None:
        """The next line of the worker, or None when the deadline passes or the worker has ended."""
        stdout = self.process.stdout
        if stdout is None:
            return None
        poller = select.poll()
        poller.register(stdout, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._pending:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poller.poll(remaining * 1000):
                return None
            chunk = os.read(stdout.fileno(), MAX_REPLY_BYTES)
            if not chunk:
                return None
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def wait_ready(self, deadline: float) -> bool:
        """Whether the worker has loaded its libraries by the deadline."""
        if not self.ready:
            self.ready = self._line(deadline) == b"ready"
        return self.ready

    def ask(self, gold: str, pred: str, deadline: float, processor_seconds: float) -> Settlement | None:
        """One pair; None when the worker was not in time or ended, as it does after `processor_seconds` (0: never)."""
        stdin = self.process.stdin
        if stdin is None:
            return None
        seconds = max(0.1, deadline - time.monotonic())
        request = {"gold": gold, "pred": pred, "seconds": seconds, "processor_seconds": processor_seconds}
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            return None
        line = self._line(deadline)
        try:
            return Settlement(line.decode()) if line is not None else None
        except ValueError:
            return None

    def end(self) -> None:
        """Kill the process and free its pipes. Safe to call twice."""
        with contextlib.suppress(OSError):
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)


class GraderPool:
    """A fixed number of symbolic workers, shared by any number of threads.

    Use as a context manager, or `close()` it.
    """

    def __init__(self, workers: int = 2, memory_bytes_per_worker: int = MEMORY_BYTES_PER_WORKER) -> None:
        """`workers` processes at most; they start when first needed, or in `warm_up`."""
        if workers < 1:
            raise ValueError(f"a grader pool needs at least one worker, not {workers}")
        self.workers = workers
        self.owner = os.getpid()
        self._memory = memory_bytes_per_worker
        self._closed = False
        self._lock, self._loading = threading.Lock(), threading.RLock()
        self._all: set[_Worker] = set()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)  # a place whose process is not started yet
        self.replaced = 0
        self._loaded = threading.Event()  # set once a first worker is ready, or none could be made so

    def __enter__(self) -> Self:
        """The pool itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self.close()

    def _start(self) -> _Worker:
        worker = _Worker(self._memory)
        with self._lock:
            self._all.add(worker)
            closed = self._closed
        if closed:
            worker.end()
        return worker

    def warm_up(self, timeout_seconds: float = 120.0, workers: int | None = None) -> bool:
        """Start workers (all unless told how many) and wait until they are loaded, so that no first pair pays for it.

        False if one was not in time.
        """
        wanted = self.workers if workers is None else min(workers, self.workers)
        deadline = time.monotonic() + timeout_seconds
        with self._loading:  # two callers that each held half of the places would wait for each other
            places: list[_Worker | None] = [self._free.get() for _ in range(self.workers)]
            places.sort(key=lambda place: place is None)  # running ones first
            ready = []
            try:
                for i, place in enumerate(places[:wanted]):
                    places[i] = place or self._start()
                ready = [place is not None and place.wait_ready(deadline) for place in places[:wanted]]
            finally:
                for place in reversed(places):  # the loaded ones on top: the last put is the first taken
                    self._free.put(place)
            if any(ready):
                self._loaded.set()
            return all(ready)

    def compare(self, gold: str, pred: str, timeout_seconds: float, processor_seconds: float = 0.0) -> Settlement:
        """Whether math-verify calls the pair equal.

        Ends within `timeout_seconds` of wall time, waiting for a free worker included. Only the first pairs of a pool
        also wait for its workers to load (some seconds, at most LOADING_SECONDS), which is no part of their deadline.
        With `processor_seconds` the pair also ends once the worker has computed on it for so long: a limit that does
        not depend on what else the machine does.
        """
        self._load_once()
        deadline = time.monotonic() + max(0.0, timeout_seconds)
        if self._closed:
            return Settlement.TIMEOUT
        worker = self._take(deadline)
        if worker is None:
            return Settlement.TIMEOUT
        keep: _Worker | None = None
        try:
            if not worker.wait_ready(deadline):
                if worker.process.poll() is None:
                    keep = worker  # still loading: the next pair finds it further on
                return Settlement.TIMEOUT
            settled = worker.ask(gold, pred, deadline, processor_seconds)
            keep = worker if settled is not None else None
            return settled or Settlement.TIMEOUT
        finally:
            if keep is None:
                threading.Thread(target=self._fill, args=(worker,), daemon=True).start()
            else:
                self._free.put(keep)

    def _load_once(self) -> None:
        """Load the workers at the first pair of all; others that come meanwhile wait for the same loading."""
        if self._loaded.is_set() or self._closed:
            return
        with self._loading:
            if not self._loaded.is_set() and not self._closed:
                with contextlib.suppress(OSError):
                    self.warm_up(LOADING_SECONDS)
                self._loaded.set()

    def _take(self, deadline: float) -> _Worker | None:
        """A worker that nobody uses, or None at the deadline.

        Starting a process happens beside the caller, who keeps its deadline.
        """
        while True:
            try:
                place = self._free.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if place is not None:
                return place
            threading.Thread(target=self._fill, daemon=True).start()

    def _fill(self, stuck: _Worker | None = None) -> None:
        """Start a process for an empty place, or in that of a stuck worker, which is ended; beside the caller."""
        fresh: _Worker | None = None
        try:
            if stuck is not None:
                with self._lock:
                    self._all.discard(stuck)
                    self.replaced += 1
                stuck.end()
            if stuck is None or not self._closed:
                fresh = self._start()
        except OSError:
            time.sleep(0.2)  # no process can be started now; do not spin
        finally:
            self._free.put(fresh)

    def close(self) -> None:
        """End all workers. Pairs that still wait come back as timeouts."""
        with self._lock:
            self._closed = True
            workers, self._all = self._all, set()
        for worker in workers:
            worker.end()


_default: GraderPool | None = None
_default_lock = threading.Lock()


def default_pool() -> GraderPool:
    """The pool of this process, made at first use and closed at exit; a forked child gets one of its own."""
    global _default
    with _default_lock:
        if _default is None or _default.owner != os.getpid():
            _default = GraderPool(workers=max(1, min(8, (os.cpu_count() or 2))))
            atexit.register(_default.close)
        return _default
