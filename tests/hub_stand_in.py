"""A small server on loopback that answers huggingface_hub's calls as the Hub does, and a fixture that starts it.

Uploads: one commit in memory. Reads: info and tree of a revision, in pages; small files by a relative redirect, large
ones from another host name with a signed address, both by ranges; gated and private repositories, tokens, pauses, cut
connections. What it does not know it answers with 404 and keeps in `unknown`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

TOKEN = "hf_" + "secretsecret" * 3
SIGNATURE = "X-Amz-Signature=verysecretsignature"


LARGE = (".parquet", ".safetensors", ".zip")
PAGE = 20
"""Entries of a page of a tree; the Hub has 1,000."""


class Hub(ThreadingHTTPServer):
    """Repositories in memory: one commit replaces files all at once, large files come by Git LFS before it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.kinds: dict[str, str] = {}
        self.visibility: dict[str, str] = {}
        self.head: dict[str, str] = {}
        self.large: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.refuse: dict[str, int] = {}
        self.inline = False
        self.on_preupload: Any = None
        self.history: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.members = {TOKEN}
        self.cuts: dict[str, list[int]] = {}
        self.pauses: dict[str, int] = {}
        self.on_info: Any = None
        self.asked: list[str] = []
        self.unknown: list[str] = []

    def place(self, name: str, files: dict[str, bytes], kind: str = "dataset", commit: str = "") -> str:
        """Put a commit of a public repository there, as the head of its branch main."""
        commit = (
            commit or hashlib.sha256(repr(sorted((file, len(files[file])) for file in files)).encode()).hexdigest()[:40]
        )
        self.history.setdefault(name, {})[commit] = files
        self.branches.setdefault(name, {})["main"] = commit
        self.kinds[name] = kind
        return commit

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a revision: a branch, a commit, or its beginning; None where there is none."""
        if name in self.repositories:
            return self.head[name], self.repositories[name]
        wanted = self.branches.get(name, {}).get(revision, revision)
        return next(((one, files) for one, files in self.history.get(name, {}).items() if one == wanted), None)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.repositories[name])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit", self.head[name]) != self.head[name]:
                    return ""
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        self.repositories[name] = files
        self.head[name] = hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:40]
        return self.head[name]


_ADDRESS = re.compile(
    r"/(?:api/)?(?:datasets/|models/)?(?P<name>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<what>revision|tree|resolve|auth-check)(?:/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?)?"
)
_CACHED = re.compile(r"^/api/resolve-cache/(datasets|models)/([^/]+/[^/]+)/")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """The calls of reading and of an upload, and no other."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path.startswith("/cdn/"):
            self.from_cdn(unquote(path))
            return
        found = _ADDRESS.fullmatch(_CACHED.sub(r"/\1/\2/resolve/", path))
        if found is None:
            self.server.unknown.append(path)
            self.refuse_with(404, "")
            return
        name, what, revision, file = found["name"], found["what"] or "info", found["revision"] or "main", found["file"]
        if not self.refused(name, what):
            self.read(name, what, unquote(revision), unquote(file or ""))

    def read(self, name: str, what: str, revision: str, file: str) -> None:
        """Answer about a repository that may be read."""
        hub = self.server
        at = hub.at(name, revision)
        if what == "auth-check":
            self.answer({})
        elif at is None:
            self.refuse_with(404, "RevisionNotFound")
        elif what in {"info", "revision"}:
            files = [{"rfilename": one} for one in at[1]]
            self.answer(
                {"id": name, "sha": at[0], "gated": "manual" if name in hub.gated else False, "siblings": files}
            )
            if hub.on_info:
                hub.on_info()
        elif what == "tree":
            self.tree(at[1])
        elif file not in at[1]:
            self.refuse_with(404, "EntryNotFound")
        else:
            self.resolve(name, at[0], file, at[1][file])

    def tree(self, files: dict[str, bytes]) -> None:
        """One page of the list of files."""
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        entries = []
        for name in sorted(files)[start : start + PAGE]:
            entry = {"type": "file", "path": name, "size": len(files[name]), "oid": _digest(files[name])[:40]}
            lfs = {"oid": _digest(files[name]), "size": len(files[name]), "pointerSize": 134}
            entries.append({**entry, "lfs": lfs} if name.endswith(LARGE) else entry)
        following = f"{self.server.url}{self.path.partition('?')[0]}?recursive=true&cursor={start + PAGE}"
        more = {"Link": f'<{following}>; rel="next"'} if start + PAGE < len(files) else {}
        self.answer(entries, headers=more)

    def resolve(self, name: str, commit: str, file: str, data: bytes) -> None:
        """A small file lies behind a relative redirect, a large one on another host."""
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_digest(data)[:40]}"'}
        if file.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{_digest(data)}"', "X-Linked-Size": str(len(data))}
            host = self.server.url.replace("127.0.0.1", "localhost")
            headers["Location"] = f"{host}/cdn/{name}/{commit}/{quote(file)}?{SIGNATURE}"
            self.answer({}, 302, headers)
        elif "/api/resolve-cache/" not in self.path:
            kind = self.server.kinds.get(name, "dataset")
            self.answer({}, 307, {**headers, "Location": f"/api/resolve-cache/{kind}s/{name}/{commit}/{quote(file)}"})
        else:
            self.send_data(data, headers, file)

    def from_cdn(self, path: str) -> None:
        """A large file, for whoever has the signed address; nobody's token comes here."""
        assert SIGNATURE in self.path
        assert "Authorization" not in self.headers
        owner, name, commit, file = path.removeprefix("/cdn/").split("/", 3)
        at = self.server.at(f"{owner}/{name}", commit)
        assert at is not None
        self.send_data(at[1][file], {"ETag": '"cdn"'}, file)

    def send_data(self, data: bytes, headers: dict[str, str], file: str) -> None:
        """Bytes, or their rest; where the test asks for it, the connection ends in the midst of them."""
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if start else 200)
        if start:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        for key, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "GET":
            return
        cuts = self.server.cuts.get(file)
        if not cuts:
            self.wfile.write(data[start:])
            return
        self.wfile.write(data[start : start + cuts.pop(0)])
        self.wfile.flush()
        # Without lingering, what is left unsent goes with a reset, as where a cable is pulled or a proxy dies.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def refused(self, name: str, what: str) -> bool:
        """Whether nothing more is said: a pause, a wrong token, a repository that is not there or not for everybody."""
        hub, told = self.server, self.headers["Authorization"]
        if hub.pauses.get(what):
            hub.pauses[what] -= 1
            self.refuse_with(429, "", {"Retry-After": "0"})
        elif hub.refuse.get("info"):
            self.answered_no("info")
        elif told and told.removeprefix("Bearer ") not in hub.members | {TOKEN}:
            # A careless server, which repeats what it was given.
            self.refuse_with(
                401, "", {"X-Error-Message": "Invalid credentials in Authorization header", "X-Told": told}
            )
        elif name not in {**hub.history, **hub.repositories} or (hub.visibility.get(name) == "private" and not told):
            self.refuse_with(404 if told else 401, "RepoNotFound")
        elif name in hub.gated and what in {"resolve", "auth-check"} and told != f"Bearer {TOKEN}":
            self.refuse_with(403 if told else 401, "GatedRepo")
        else:
            return False
        return True

    def refuse_with(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.answer({"error": f"refused at {self.path}"}, status, {"X-Error-Code": code, **(headers or {})})

    def do_PUT(self) -> None:
        data = self.body()
        if self.answered_no("put", authorised=True):
            return
        assert SIGNATURE in self.path
        assert "Authorization" not in self.headers
        oid = self.path.partition("?")[0].rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.large[oid] = data
        self.answer({})

    def do_POST(self) -> None:
        body = self.body()
        hub, path = self.server, self.path.partition("?")[0]
        last = path.rpartition("/")[2] if "/preupload/" not in path and "/commit/" not in path else path.split("/")[-2]
        if self.answered_no(last):
            return
        if last == "create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name not in hub.repositories:
                hub.kinds[name] = wanted.get("type") or "model"
                hub.repositories[name] = {".gitattributes": b""}
                hub.head[name] = "0" * 40
                hub.visibility[name] = wanted.get("visibility", "private" if wanted.get("private") else "public")
            self.answer({"url": f"{hub.url}/datasets/{name}"})
        elif last == "validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            self.answer({})
        elif last == "preupload":
            if hub.on_preupload:
                hub.on_preupload()
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs"
                    if file["path"].endswith((".parquet", ".safetensors")) and not hub.inline
                    else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif last == "batch":
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}?{SIGNATURE}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        else:
            assert last == "commit"
            name = "/".join(path.split("/")[3:5])
            oid = hub.commit(name, [json.loads(line) for line in body.splitlines()])
            if oid:
                self.answer({"commitUrl": f"{hub.url}/datasets/{name}/commit/{oid}", "commitOid": oid})
            else:
                self.answer({"error": "A commit has happened since"}, 412)

    def answered_no(self, call: str, *, authorised: bool = False) -> bool:
        status = self.server.refuse.get(call, 0)
        if not status and not authorised and self.headers["Authorization"] != f"Bearer {TOKEN}":
            status = 401
        if status:
            # A careless server, which repeats what it was given.
            self.answer({"error": f"no {call} with {TOKEN} at {self.path}"}, status)
        return bool(status)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while inside."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        resolved = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", resolved)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        # Large files go by Git LFS: Xet's protocol is the business of hf_xet.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """What a command reads that asks `endpoint` and keeps what it fetches in `home`."""
    kept = {name: value for name, value in os.environ.items() if name not in {"HF_TOKEN", "HF_HUB_OFFLINE"}}
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **own}
