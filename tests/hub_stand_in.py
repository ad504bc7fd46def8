"""A small server on loopback that answers the calls of huggingface_hub for an upload, and a fixture that starts it.

Test files load it by its path: `tests` is no package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_" + "secretsecret" * 3
SIGNATURE = "X-Amz-Signature=verysecretsignature"


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


class Answers(BaseHTTPRequestHandler):
    """The calls of an upload, and no other."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            name, _, rest = self.path.removeprefix("/datasets").removeprefix("/").partition("/resolve/")
            commit, _, file = rest.partition("/")
            data = self.server.repositories[name][file]
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)
            return
        name = self.path.removeprefix("/api/datasets/").removeprefix("/api/models/")
        if self.answered_no("info"):
            return
        files = [{"rfilename": file} for file in self.server.repositories[name]]
        self.answer({"id": name, "sha": self.server.head[name], "siblings": files})

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

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    resolved = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", resolved)
    # Large files go by Git LFS: Xet's protocol is the business of hf_xet.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()
