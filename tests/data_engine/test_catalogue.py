from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.sample_versions import draft, ledger_row, publish_sample, row, write_ledger, write_rows
from data_engine.cli import app
from data_engine.sharing.catalogue import list_versions, tag
from data_engine.sharing.diff import compare
from data_engine.sharing.gc import collect
from shared.dataset_version import open_dataset, publish
from shared.dataset_version.leases import Lease, publishing
from shared.dataset_version.names import blob_path
from shared.errors import InfiMmrError
from shared.store import Store, open_store


def cli(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.stdout


def test_every_command_answers_in_json(tmp_path: Path) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    publish_sample(store, tmp_path / "a")
    publish_sample(store, tmp_path / "b", caption="other words")
    at = ("--store", store, "--json")
    assert [entry["version"] for entry in json.loads(cli("list", *at))["versions"]] == ["v1", "v2"]
    assert json.loads(cli("show", "sample@v1", *at))["rows"] == 20
    assert json.loads(cli("diff", "sample@v1", "sample@v2", *at))["rows"]["changed"] == 20
    assert json.loads(cli("verify", "sample", *at))["images"] == 20
    assert json.loads(cli("tag", "sample@v1", "prod", *at)) == {
        "dataset": "sample",
        "tag": "prod",
        "version": "v1",
        "before": None,
    }
    assert json.loads(cli("push", "sample@prod", other, *at))["version"] == "v1"
    assert json.loads(cli("pull", "sample", other, "--store", tmp_path / "third", "--json"))["version"] == "v1"
    assert json.loads(cli("gc", "--dry-run", *at))["files"] == 0
    assert json.loads(cli("export", "sample", "--to", tmp_path / "export", *at))["version"] == "v2"
    assert json.loads(cli("preview", "sample", "--to", tmp_path / "page.html", *at))["rows"] == 20
    assert json.loads(cli("tag", "sample", "prod", "--delete", *at))["before"] == "v1"


def test_every_command_speaks_to_people(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_sample(store, tmp_path / "a")
    publish_sample(store, tmp_path / "b", caption="other words")
    for words in (["list"], ["show", "sample"], ["show", "sample", "--ledger"], ["diff", "sample@v1", "sample"]):
        assert cli(*words, "--store", store) == ""


def test_the_ledger_is_one_json_line_per_row(tmp_path: Path) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    lines = cli("show", "sample", "--ledger", "--json", "--store", tmp_path / "store").splitlines()
    keys = ["id", "source_id", "step", "rule", "removed", "benchmark", "item", "score", "evidence"]
    assert [list(json.loads(line)) for line in lines] == [keys, keys]
    answer = cli("show", "absent", "--ledger", "--json", "--store", tmp_path / "store", code=2)
    assert json.loads(answer)["error"].startswith("no dataset 'absent'")


def test_verify_exits_with_one_and_names_the_damaged_shard(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    file = version.files()[0]
    file.write_bytes(file.read_bytes()[:-1])
    report = json.loads(cli("verify", "sample", "--json", "--store", tmp_path / "store", code=1))
    assert report["ok"] is False
    assert report["problems"][0]["file"] == file.name


def test_a_damaged_manifest_is_listed_as_damaged_and_hides_no_other(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    publish_sample(tmp_path / "store", tmp_path / "second", caption="other words")
    (version.path / "manifest.json").write_text("{}")
    entries = list_versions(open_store(tmp_path / "store"))
    assert "cannot be read" in entries[0]["error"]
    assert entries[1]["rows"] == 20
    with pytest.raises(InfiMmrError, match="manifest"):
        collect(open_store(tmp_path / "store"))


def test_a_wrong_word_is_wrong_usage(tmp_path: Path) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    answer = json.loads(cli("show", "smaple", "--json", "--store", tmp_path / "store", code=2))
    assert "Did you mean sample" in answer["next"]
    cli("tag", "sample", "../x", "--store", tmp_path / "store", code=2)
    cli("tag", "sample", "v7", "--store", tmp_path / "store", code=2)


def test_a_tag_moved_by_somebody_else_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    store = open_store(tmp_path / "store")
    plain = type(store).get

    def get(self: Store, path: str) -> bytes:
        data = plain(self, path)
        if path.startswith("tags/"):
            monkeypatch.setattr(type(store), "get", plain)
            store.put(path, b'{"version":"v1","fingerprint":"somebody"}')
        return data

    tag("sample", "prod", store)
    monkeypatch.setattr(type(store), "get", get)
    with pytest.raises(InfiMmrError, match="somebody else moved"):
        tag("sample", "prod", store)


def test_diff_tells_added_removed_and_changed_rows_with_their_rules(tmp_path: Path) -> None:
    first = publish(
        tmp_path / "store",
        draft(recipe={"threshold": 0.95, "same": 1}),
        write_rows(tmp_path / "a", [row(number) for number in range(10)]),
        write_ledger(tmp_path / "a", [ledger_row(10, rule="numbers_removed")]),
    )
    rows = [row(number) for number in range(1, 11)]
    rows[0] |= {"id": "sample-new-identity", "question": "<image> corrected", "captions": ["new"]}
    second = publish(
        tmp_path / "store",
        draft(recipe={"threshold": 0.9, "same": 1}, profile="full"),
        write_rows(tmp_path / "b", rows),
        write_ledger(tmp_path / "b", [ledger_row(0)]),
    )
    found = compare(first, second)
    assert found["rows"] == {"a": 10, "b": 10, "added": 1, "removed": 1, "changed": 1, "same": 8}
    assert found["removed_by"] == [{"step": "decontaminate_ngrams", "rule": "ngram_32", "rows": 1}]
    assert found["added_by"] == [{"step": "decontaminate_ngrams", "rule": "numbers_removed", "rows": 1}]
    assert found["changed_columns"] == {"question": 1, "captions": 1}
    assert found["samples"]["changed"][0]["columns"]["question"]["b"] == "<image> corrected"
    assert {"key": "recipe.threshold", "a": 0.95, "b": 0.9} in found["configuration"]
    assert {"key": "profile", "a": "local", "b": "full"} in found["configuration"]
    assert not any(entry["key"] == "recipe.same" for entry in found["configuration"])
    assert compare(first, first)["rows"] == {"a": 10, "b": 10, "added": 0, "removed": 0, "changed": 0, "same": 10}


def test_diff_and_export_of_a_version_whose_rows_have_the_policys_pass_rates(tmp_path: Path) -> None:
    rating = {"pass_rate": 0.5, "low": 0.1, "high": 0.9, "samples": 8, "answer_tokens": 90.0}
    plain = publish(tmp_path / "store", draft(), write_rows(tmp_path / "a", [row(number) for number in range(4)]))
    rated = publish(
        tmp_path / "store",
        draft(recipe={"steps": {"rate_difficulty": {}}}),
        write_rows(tmp_path / "b", [row(number, rating=rating if number else None) for number in range(4)]),
    )
    for found in (compare(plain, rated), compare(rated, plain)):
        assert found["changed_columns"] == {"rating": 3}
        assert found["rows"]["same"] == 1
    made = json.loads(cli("export", "sample@v2", "--to", tmp_path / "out", "--store", tmp_path / "store", "--json"))
    assert made
    card = (tmp_path / "out" / "README.md").read_text()
    assert "answer_tokens" in card
    import datasets

    files = str(tmp_path / "out" / "data" / "*.parquet")
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert [one["rating"]["pass_rate"] for one in read if one["rating"]] == [0.5] * 3


def test_gc_removes_only_what_no_version_reaches(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    store = open_store(tmp_path / "store")
    lost = "a" * 64
    store.put(blob_path(lost), b"lost")
    (tmp_path / "store" / ".tmp").mkdir(exist_ok=True)
    (tmp_path / "store" / ".tmp" / "dead").write_bytes(b"half a file")
    store.put("annotations/step/context/x.parquet", b"kept")
    assert collect(store)["too_young"] == [blob_path(lost)]
    dry = collect(store, dry_run=True, minimum_age=0)
    assert store.exists(blob_path(lost))
    assert dry["removed"] == [blob_path(lost)]
    assert collect(store, minimum_age=0)["removed"] == [blob_path(lost)]
    assert not store.exists(blob_path(lost))
    assert not (tmp_path / "store" / ".tmp" / "dead").exists()
    assert store.exists("annotations/step/context/x.parquet")
    assert version.verify(images=True).ok
    assert collect(store, minimum_age=0)["files"] == 0


def test_gc_leaves_what_is_being_written(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    with publishing(store):
        store.put(blob_path("b" * 64), b"on its way")
        with pytest.raises(InfiMmrError, match="somebody publishes"):
            collect(store, minimum_age=0)
    assert store.exists(blob_path("b" * 64))
    from shared.store.folder import FolderStore

    assert isinstance(store, FolderStore)
    with store.temporary() as writing:
        collect(store, minimum_age=0)
        assert writing.exists()


def test_gc_takes_at_once_what_a_dead_publisher_left(tmp_path: Path) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    store = open_store(tmp_path / "store")
    lease = Lease(store, "leases/dead.json")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    content = json.loads(lease.content()) | {"pid": int(gone.stdout)}
    store.put(lease.path, json.dumps(content).encode())
    store.put(blob_path("c" * 64), b"left")
    assert collect(store)["removed"] == [blob_path("c" * 64)]
    assert list(store.list("leases")) == []


@pytest.mark.slow
def test_two_hundred_killed_publishers_leave_nothing_after_gc(tmp_path: Path) -> None:
    write_rows(tmp_path / "built", [row(number) for number in range(4)])
    program = Path(__file__).parent.parent / "shared" / "publishers.py"
    done = subprocess.run(
        [sys.executable, program, "kill", tmp_path / "store", tmp_path / "built", "200"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "store")
    collected = collect(store)
    assert collected["files"] > 0
    assert collected["too_young"] == []
    entries = list_versions(store)
    assert entries
    versions = [open_dataset(f"{entry['dataset']}@{entry['version']}", store) for entry in entries]
    assert all(version.verify().ok for version in versions)
    reached = {blob_path(shard.sha256) for version in versions for shard in version.manifest.files()}
    assert {entry.path for entry in store.list("blobs")} == reached
    left = [path for path in (tmp_path / "store").rglob(".*") if path.is_file() or path.name.startswith(".tmp-")]
    assert left == []
    assert collect(store)["files"] == 0
