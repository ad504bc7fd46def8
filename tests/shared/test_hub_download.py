"""What keeps a dataset or a model from being fetched is one line with what to do next, and nothing half is left."""

from __future__ import annotations

import errno

import huggingface_hub
import pytest

from shared.errors import InfiMmrError
from shared.hub_download import HubUnansweredError, fetch_files, fetch_snapshot
from shared.vlm.checkpoint import at_commit, checkpoint_folder, template_folder
from shared.vlm.spec import EngineSpec
from tests.hub_stand_in import TOKEN

KINDS = ("dataset", "model")
FILES = {"config.json": b"{}", "part/data.parquet": bytes(range(256)) * 4000, "README.md": b"# rows\n"}
COMMIT = "c" * 40


@pytest.fixture
def no_waiting(monkeypatch):
    """The client's pauses between its tries take no time."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def lines_of(error):
    """The error's line; it holds neither the token nor a signed address."""
    text = str(error.value)
    assert "\n" not in text
    assert TOKEN not in text
    assert "Signature" not in text
    return text


def leftovers(tmp_path):
    """Files of the hub's cache that are no whole file of a commit and none of its notes about it."""
    cache = tmp_path / "hub-cache"
    found = [path for path in cache.rglob("*") if path.is_file() and not {"trees", "refs"} & set(path.parts)]
    whole = {bytes(data) for data in FILES.values()}
    return [path for path in found if path.suffix not in {".lock", ".TAG"} and path.read_bytes() not in whole]


def fetch(kind, revision=COMMIT, patterns=()):
    return fetch_snapshot("acme/rows", kind, revision, patterns, what="recipe r, source")


@pytest.mark.parametrize("kind", KINDS)
def test_small_and_large_files_of_a_commit_are_fetched_once(hub, kind):
    hub.place("acme/rows", {**FILES, **{f"more/{n:03d}.txt": b"n" for n in range(50)}}, kind, COMMIT)
    folder = fetch(kind, patterns=["config.json", "part/*"])
    assert folder.name == COMMIT
    assert {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()} == {
        name: FILES[name] for name in ("config.json", "part/data.parquet")
    }
    before = len(hub.asked)
    assert fetch(kind, patterns=["config.json", "part/*"]) == folder
    assert hub.asked[before:] == []
    assert len(list(fetch(kind, patterns=["more/*"]).glob("more/*"))) == 50, "a list in pages is read to its end"


@pytest.mark.parametrize("kind", KINDS)
def test_a_branch_that_moves_while_it_is_fetched_gives_the_commit_that_it_was(hub, kind):
    hub.place("acme/rows", FILES, kind, COMMIT)
    hub.on_info = lambda: hub.place("acme/rows", {**FILES, "config.json": b'{"moved": 1}'}, kind, "d" * 40)
    folder = fetch(kind, "main", ["config.json"])
    assert (folder.name, (folder / "config.json").read_bytes()) == (COMMIT, FILES["config.json"])
    assert fetch(kind, "main", ["README.md"]) == folder, "what is fetched later in a process comes from the same commit"


def test_weights_come_from_the_commit_of_the_chat_template_though_the_branch_moved(hub):
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"w"}
    hub.place("acme/rows", files, "model", COMMIT)
    first = template_folder("acme/rows", None)
    hub.place("acme/rows", {**files, "config.json": b'{"other": 1}'}, "model", "d" * 40)
    assert checkpoint_folder(EngineSpec(model="acme/rows")) == first


def test_engines_of_a_cluster_are_told_the_commit_of_a_branch_and_nothing_else_of_them_changes(hub):
    hub.place("acme/rows", FILES, "model", COMMIT)
    branch = EngineSpec(model="acme/rows", max_model_len=77)
    assert at_commit(branch) == branch.model_copy(update={"revision": COMMIT})
    hub.place("acme/rows", FILES, "model", "d" * 40)
    assert at_commit(branch).revision == COMMIT, "workers that start later read what the first ones read"
    for spec in (
        EngineSpec(model="acme/rows", revision="e" * 40),
        EngineSpec(model="tiny-vl"),
        EngineSpec(model="served", endpoint="http://127.0.0.1:1/v1"),
        EngineSpec(model="acme/unknown"),
    ):
        assert at_commit(spec) is spec


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_is_cut_is_made_again_and_given_up_in_one_line(hub, kind, tmp_path, no_waiting):
    hub.place("acme/rows", FILES, kind, COMMIT)
    hub.cuts["part/data.parquet"] = [70_000, 1000]
    folder = fetch(kind)
    assert (folder / "part/data.parquet").read_bytes() == FILES["part/data.parquet"]
    hub.place("acme/rows", {**FILES, "part/data.parquet": FILES["part/data.parquet"][::-1]}, kind, "e" * 40)
    hub.cuts["part/data.parquet"] = [70_000] * 50
    with pytest.raises(HubUnansweredError) as error:
        fetch(kind, "e" * 40)
    assert f"recipe r, source: the connection was cut 3 times while {kind} acme/rows" in lines_of(error)
    assert "Use the same command again" in lines_of(error)
    assert leftovers(tmp_path) == []
    hub.cuts.clear()
    assert (fetch(kind, "e" * 40) / "part/data.parquet").read_bytes() == FILES["part/data.parquet"][::-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", ["", "hf_" + "otherother" * 3])
def test_a_gated_repository_says_where_its_terms_are_accepted(hub, kind, token, tmp_path, monkeypatch):
    hub.place("acme/rows", FILES, kind, COMMIT)
    hub.gated.add("acme/rows")
    hub.members.add(token)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InfiMmrError) as error:
        fetch(kind)
    page = f"{hub.url}/{'datasets/' if kind == 'dataset' else ''}acme/rows"
    assert f"{kind} acme/rows is gated" in lines_of(error)
    assert f"Accept its terms at {page}, then set HF_TOKEN" in lines_of(error)
    assert not token or token not in lines_of(error)
    assert leftovers(tmp_path) == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetch(kind) / "config.json").is_file()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_wrong_token_is_told_and_not_shown(hub, kind, revision, monkeypatch, capfd):
    hub.place("acme/rows", FILES, kind, COMMIT)
    wrong = "hf_" + "wrongwrong" * 3
    monkeypatch.setenv("HF_TOKEN", wrong)
    with pytest.raises(InfiMmrError) as error:
        fetch(kind, revision)
    assert "the hub does not accept this machine's token (401)" in lines_of(error)
    assert "set HF_TOKEN" in lines_of(error).replace("Set", "set")
    printed = capfd.readouterr()
    for text in (lines_of(error), printed.out, printed.err):
        assert wrong not in text


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_hub_does_not_have_is_named_with_what_it_has(hub, kind, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    for name in ("acme/rows", "acme/private"):
        hub.place("acme/private", FILES, kind, COMMIT)
        hub.visibility["acme/private"] = "private"
        with pytest.raises(InfiMmrError) as error:
            fetch_snapshot(name, kind, "main", [])
        assert f"the hub has no {kind} {name} at revision main, or keeps it from you (401). Check the id" in lines_of(
            error
        )
    hub.place("acme/rows", FILES, kind, COMMIT)
    for revision in ("f" * 40, "v2"):
        with pytest.raises(InfiMmrError) as error:
            fetch(kind, revision)
        assert f"{kind} acme/rows has no revision {revision}. Take one of {hub.url}/" in lines_of(error)
    with pytest.raises(InfiMmrError) as error:
        fetch(kind, patterns=["test.jsonl", "data/test-*.parquet"])
    assert f"{kind} acme/rows has no file test.jsonl or data/test-*.parquet at commit {COMMIT}" in lines_of(error)
    assert "It has README.md, config.json, part/data.parquet" in lines_of(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_that_asks_for_a_pause_is_asked_again_and_then_told(hub, kind, no_waiting):
    hub.place("acme/rows", FILES, kind, COMMIT)
    hub.pauses = {"resolve": 3}
    assert (fetch(kind, patterns=["README.md"]) / "README.md").is_file()
    for what in ("info", "resolve"):
        hub.pauses = {what: 1000, "revision": 1000 * (what == "info")}
        with pytest.raises(HubUnansweredError) as error:
            fetch(kind, patterns=["config.json"])
        assert f"the hub asks for a pause (429), asked for {kind} acme/rows. Wait some minutes" in lines_of(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network_what_was_fetched_serves_and_anything_else_is_one_line(
    hub, kind, offline, monkeypatch, no_waiting
):
    hub.place("acme/rows", FILES, kind, COMMIT)
    whole = fetch(kind, "main", ["config.json"])
    hub.shutdown()
    hub.server_close()
    huggingface_hub.close_session()  # a connection that is kept is still answered
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("shared.hub_download._resolved", {})  # another process
    for revision in (COMMIT, "main"):
        assert fetch(kind, revision, ["config.json"]) == whole
        with pytest.raises(HubUnansweredError) as error:
            fetch(kind, revision)
        said = "HF_HUB_OFFLINE keeps it from the hub" if offline else f"the hub does not answer at {hub.url}"
        assert said in lines_of(error)
    with pytest.raises(HubUnansweredError) as error:
        fetch_snapshot("acme/other", kind, COMMIT, [])
    assert f"{kind} acme/other at revision {COMMIT} is not on this machine" in lines_of(error)
    command = f"hf download acme/other{' --repo-type dataset' if kind == 'dataset' else ''} --revision {COMMIT}"
    assert (command in lines_of(error)) is offline


def test_files_by_their_names_are_fetched_where_they_lack_and_as_insistently(hub, no_waiting, monkeypatch):
    hub.place("acme/rows", FILES, "dataset", COMMIT)
    hub.cuts["part/data.parquet"] = [70_000, 1000]
    names = ["part/data.parquet", "config.json"]
    folder = fetch_files("acme/rows", "dataset", COMMIT, names)
    assert [(folder / name).read_bytes() for name in names] == [FILES[name] for name in names]
    hub.cuts["README.md"] = [0] * 50
    with pytest.raises(HubUnansweredError, match="was cut 3 times"):
        fetch_files("acme/rows", "dataset", COMMIT, ["README.md"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(hub.asked)
    assert fetch_files("acme/rows", "dataset", COMMIT, names) == folder
    assert hub.asked[before:] == []


def test_files_of_an_older_client_without_a_list_of_its_commit_serve_offline(hub, monkeypatch, tmp_path):
    hub.place("acme/rows", FILES, "model", COMMIT)
    whole = fetch("model")
    for listing in (tmp_path / "hub-cache").glob("*/trees/*"):
        listing.unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch("model") == whole


def test_a_full_disk_is_told_as_a_full_disk(hub, monkeypatch):
    hub.place("acme/rows", FILES, "dataset", COMMIT)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/blob")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(InfiMmrError) as error:
        fetch("dataset")
    assert "dataset acme/rows cannot be fetched: No space left on device" in lines_of(error)
    assert "Free some space" in lines_of(error)


def test_a_model_that_lacks_files_is_called_by_its_name(hub, tmp_path):
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    part = {"model-00001-of-00002.safetensors": b"w", "model.safetensors.index.json": index}
    for name, files, said in (
        ("acme/pickled", {"config.json": b"{}", "pytorch_model.bin": b"w"}, "has no safetensors"),
        ("acme/adapter", {"adapter_model.safetensors": b"w"}, "has no config.json"),
        ("acme/half", {"config.json": b"{}", **part}, "lacks model-00002-of-00002.safetensors"),
    ):
        hub.place(name, files, "model")
        with pytest.raises(InfiMmrError, match=f"model {name} {said}") as error:
            checkpoint_folder(EngineSpec(model=name))
        assert str(tmp_path) not in str(error.value)
