"""Uploads to a small server on loopback that answers the calls of huggingface_hub for a dataset repository."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from benchmarks.sample_versions import publish_sample
from data_engine.sharing.export import export
from data_engine.sharing.export_files import card, croissant
from shared.errors import InfiMmrError
from tests.hub_stand_in import TOKEN, Hub


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
