"""Uploads to a small server on loopback that answers the calls of huggingface_hub for a dataset repository."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

from benchmarks.sample_versions import publish_sample
from data_engine.sharing.export import card, croissant, export
from shared.errors import InfiMmrError

TOKEN = "hf_" + "secretsecret" * 3
SIGNATURE = "X-Amz-Signature=verysecretsignature"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: one commit replaces files all at once, large files come by Git LFS before it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, dict[str, bytes]] = {}
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
            name, _, rest = self.path.removeprefix("/datasets/").partition("/resolve/")
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
        name = self.path.removeprefix("/api/datasets/")
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
                assert wanted["type"] == "dataset"
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
                    "uploadMode": "lfs" if file["path"].endswith(".parquet") and not hub.inline else "regular",
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


def test_an_upload_brings_the_card_the_shards_and_their_description(hub: Hub, tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    done = export(version, "team/rows")
    files = hub.repositories["team/rows"]
    assert done["to"] == "hf://team/rows"
    assert done["commit"] == hub.head["team/rows"]
    assert hub.commits == [version.label]
    assert hub.visibility["team/rows"] == "private"
    assert set(files) == {
        ".gitattributes",
        "README.md",
        "croissant.json",
        "manifest.json",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "ledger/ledger.parquet",
    }
    assert files["README.md"].decode() == card(version.manifest)
    assert DatasetCard(files["README.md"].decode()).data.to_dict()["license"] == "mit"
    described = json.loads(files["croissant.json"])
    assert described == croissant(version.manifest)
    for entry in described["distribution"]:
        if entry["@type"] == "cr:FileObject":
            assert hashlib.sha256(files[entry["contentUrl"]]).hexdigest() == entry["sha256"]
    for name, data in files.items():
        (tmp_path / "downloaded" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "downloaded" / name).write_bytes(data)
    rows = datasets.load_dataset(str(tmp_path / "downloaded"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == 20


def test_the_next_version_leaves_no_shard_of_the_last_one(hub: Hub, tmp_path: Path) -> None:
    first = publish_sample(tmp_path / "store", tmp_path / "a")
    export(first, "hf://team/rows")
    hub.repositories["team/rows"]["data/train-00002-of-00003.parquet"] = b"of an older version"
    hub.repositories["team/rows"]["figures/mine.png"] = b"mine"
    second = publish_sample(tmp_path / "store", tmp_path / "b", caption="other words")
    done = export(second, "hf://team/rows")
    assert done["removed"] == ["data/train-00002-of-00003.parquet"]
    files = hub.repositories["team/rows"]
    assert sorted(name for name in files if name.startswith("data/")) == [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    assert files["figures/mine.png"] == b"mine"
    assert json.loads(files["manifest.json"])["version"] == "v2"
    assert len(hub.commits) == 2


FOREIGN = {
    "a card alone": {"README.md": b"# mine"},
    "files without a manifest": {
        "README.md": b"# mine",
        "data/other-config/x.parquet": b"x",
        "data/train-00000-of-00003.parquet": b"y",
    },
    "another dataset": {"manifest.json": b'{"name": "poems"}', "data/train-00000-of-00003.parquet": b"y"},
    "another manifest": {"manifest.json": b"[]"},
}


@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN)
def test_somebody_elses_repository_is_refused_and_stays_as_it_is(
    hub: Hub, tmp_path: Path, files: dict[str, bytes]
) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    hub.repositories["team/rows"], hub.head["team/rows"] = {".gitattributes": b"", **files}, "1" * 40
    with pytest.raises(InfiMmrError, match=r"team/rows holds .*would replace its card and data") as error:
        export(version, "hf://team/rows")
    assert "--replace" in error.value.next_step
    assert hub.repositories["team/rows"] == {".gitattributes": b"", **files}
    assert hub.commits == []
    export(version, "hf://team/rows", replace=True)
    assert json.loads(hub.repositories["team/rows"]["manifest.json"])["name"] == version.name


def test_small_files_travel_inside_the_commit_where_the_hub_says_so(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.inline = True
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    export(version, "team/rows")
    assert hub.large == {}
    shard = version.manifest.shards[0]
    assert (
        hashlib.sha256(hub.repositories["team/rows"]["data/train-00000-of-00002.parquet"]).hexdigest() == shard.sha256
    )


@pytest.mark.parametrize(
    "refusal",
    [
        ("create", 401, "401.*hf auth login"),
        ("create", 403, "403.*may write"),
        ("info", 404, "404"),
        ("put", 403, "403.*may write"),
        ("batch", 400, "400"),
        ("commit", 403, "403"),
        ("commit", 507, "507"),
    ],
)
def test_a_failing_upload_is_one_line_without_the_token_and_shows_nothing(
    hub: Hub, tmp_path: Path, refusal: tuple[str, int, str], capfd: pytest.CaptureFixture[str]
) -> None:
    call, status, words = refusal
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    hub.refuse[call] = status
    with pytest.raises(InfiMmrError, match=words) as error:
        export(version, "team/rows")
    shown = str(error.value) + "".join(capfd.readouterr())
    assert "team/rows" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert TOKEN not in shown
    assert "verysecretsignature" not in shown
    assert set(hub.repositories.get("team/rows", {})) <= {".gitattributes"}
    assert hub.commits == []


def test_a_commit_by_somebody_else_meanwhile_is_not_overwritten(hub: Hub, tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")

    def somebody_else() -> None:
        hub.head["team/rows"] = "1" * 40

    hub.on_preupload = somebody_else
    with pytest.raises(InfiMmrError, match=r"412.*Somebody else"):
        export(version, "team/rows")
    assert set(hub.repositories["team/rows"]) == {".gitattributes"}


def test_a_hub_that_cannot_be_reached_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.DEBUG), pytest.raises(InfiMmrError, match="upload to team/rows failed") as error:
        export(version, "team/rows")
    assert TOKEN not in str(error.value) + caplog.text
    with pytest.raises(InfiMmrError, match="owner/name"):
        export(version, "hf://team/rows/and/more")
    assert hub.repositories == {}


def test_a_damaged_shard_is_not_uploaded_and_the_token_stays_out_of_every_file(hub: Hub, tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    export(version, "team/rows")
    assert all(TOKEN.encode() not in data for data in hub.repositories["team/rows"].values())
    file = version.files()[0]
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(InfiMmrError, match="damaged"):
        export(version, "team/other")
    assert "team/other" not in hub.repositories
