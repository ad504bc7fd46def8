"""A run on a page while it runs: the report's page on loopback, made anew when the run has gone on.

Input: a run folder, running or finished (a curriculum's or an evaluation's will do). Output: a server on 127.0.0.1 that
hands out that one page, and the same page as `watch.html` in the folder, readable when nothing is served any more.
The browser asks again by itself while a run goes on. Not covered: other addresses than loopback; starting or stopping
a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from shared.errors import InfiMmrError
from shared.whole_file import write_whole
from trainer.report.build import build, render
from trainer.report.collect import collect

HOST = "127.0.0.1"
FILE = "watch.html"
SECONDS = 10
"""Between two looks of the browser at a run that goes on."""
ROLLOUTS = 24
_WATCHED = ("run.json", "metrics.jsonl", "evaluations.jsonl", "evaluation.json", "curriculum.json", "rollouts")

State = tuple[tuple[str, int, int], ...]


def state_of(folder: Path) -> State:
    """What the page depends on, as names, sizes and times of change; equal while nothing has happened."""
    places = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    found = []
    for file in (place / name for place in places for name in _WATCHED):
        with suppress(OSError):
            stat = file.stat()
            found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return tuple(found)


class Watch(ThreadingHTTPServer):
    """Serves the page of one run folder.

    Raises:
        InfiMmrError: the folder holds no run, or the port is taken.

    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._state: State | None = None
        self._page = b""
        self.going_on = True
        self.page()  # a folder without a run is told before anything listens
        try:
            super().__init__((HOST, port), _Answers)
        except OSError as error:
            message = f"port {port} cannot be listened on: {(error.strerror or str(error)).lower()}"
            raise InfiMmrError(message, "Name another one with --port") from error
        self.port = int(self.server_address[1])
        self.url = f"http://{HOST}:{self.port}/"

    def page(self) -> bytes:
        """The page as the run is now."""
        with self._lock:
            state = state_of(self.folder) if self.folder.is_dir() else ()
            if state != self._state or not self._page:
                runs = collect([self.folder], ROLLOUTS)
                self._page = render(build(runs, f"{self.folder.resolve().name} · Infi-MMR")).encode()
                self.going_on = any(run.record and not run.record.get("checkpoint_sha256") for run in runs)
                self._state = state
                with suppress(OSError):  # a folder of somebody else's is watched all the same
                    write_whole(self.folder / FILE, self._page)
            return self._page


class _Answers(BaseHTTPRequestHandler):
    """Hands out the page, and nothing else, to who asks for this very address."""

    server: Watch
    timeout = 30

    def do_GET(self) -> None:
        """Answer GET and HEAD."""
        hosts = {f"{name}:{self.server.port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in hosts:  # a page elsewhere whose name was pointed at this machine
            self._send(403, b"Ask for 127.0.0.1\n", "text/plain")
        elif self.path != "/":
            self._send(404, b"There is one page: /\n", "text/plain")
        else:
            try:
                self._send(200, self.server.page(), "text/html; charset=utf-8")
            except InfiMmrError as error:
                self._send(503, f"{error}\n".encode(), "text/plain; charset=utf-8")

    def do_HEAD(self) -> None:
        """Likewise, without the page itself."""
        self.do_GET()

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.server.going_on:
            self.send_header("Refresh", str(SECONDS))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def watching(folder: Path, port: int) -> Iterator[Watch]:
    """A server that answers meanwhile, in a thread."""
    server = Watch(folder, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        with suppress(InfiMmrError):
            server.page()  # the file is left as the run is now


def watch(folder: Path, port: int, tell: Callable[[str], object]) -> None:
    """`trainer watch`: serve until Ctrl-C."""
    with watching(folder, port) as server, suppress(KeyboardInterrupt):
        tell(f"{server.url} shows {folder} until Ctrl-C; {folder / FILE} stays")
        threading.Event().wait()
