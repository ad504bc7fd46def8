from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from benchmarks.s3_server import s3_server
from benchmarks.sample_versions import draft, publish_sample, row, write_rows
from data_engine.sharing.catalogue import list_versions, transfer
from data_engine.sharing.gc import collect
from shared.annotations import AnnotationTable
from shared.dataset_version import list_datasets, open_dataset, publish, set_tag
from shared.dataset_version.names import blob_path, map_path
from shared.errors import InfiMmrError
from shared.store import NotInStoreError, Store, open_store
from shared.store.bucket import BucketStore
from shared.store.folder import FolderStore

PUBLISHERS = Path(__file__).parent.parent / "shared" / "publishers.py"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> Store:
    return open_store(f"{server}/{request.node.name[:60].replace('[', '-').replace(']', '')}")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return open_store(tmp_path / "other")


def captioned(store: Path, built: Path, words: str) -> None:
    publish_sample(store, built, range(24), caption=words, side=160)


def test_a_pushed_version_is_the_same_version(tmp_path: Path, folder: Store) -> None:
    here = open_store(tmp_path / "here")
    publish_sample(here, tmp_path / "built")
    done = transfer("sample", here, folder)
    there = open_dataset("sample@v1", folder)
    assert done["version"] == "v1"
    assert done["bytes_sent"] == done["bytes"] == there.manifest.bytes
    assert there.manifest == open_dataset("sample@v1", here).manifest
    assert there.verify(images=True).ok
    assert transfer("sample", here, folder)["bytes_sent"] == 0


def test_a_version_travels_through_a_bucket_and_back(tmp_path: Path, bucket: Store, folder: Store) -> None:
    here = open_store(tmp_path / "here")
    publish_sample(here, tmp_path / "built")
    assert transfer("sample@v1", here, bucket)["bytes_sent"] > 0
    assert open_dataset("sample", bucket).verify(images=True).ok
    assert transfer("sample", bucket, folder)["version"] == "v1"
    assert open_dataset("sample", folder).verify(images=True).ok
    assert open_dataset("sample", folder).manifest == open_dataset("sample", here).manifest


def test_a_version_keeps_its_number_where_that_is_free_and_takes_the_next_otherwise(
    tmp_path: Path, folder: Store
) -> None:
    here = open_store(tmp_path / "here")
    publish_sample(here, tmp_path / "a")
    publish_sample(here, tmp_path / "b", caption="second")
    assert transfer("sample@v2", here, folder)["version"] == "v2"
    publish(folder, draft(profile="full"), write_rows(tmp_path / "c", [row(1)]))
    assert open_dataset("sample", folder).version == "v3"
    third = publish_sample(here, tmp_path / "d", caption="third")
    assert third.version == "v3"
    done = transfer("sample@v3", here, folder)
    assert (done["version"], done["label"]) == ("v4", "sample@v4 (local)")
    assert open_dataset("sample@v4", folder).manifest.fingerprint == third.manifest.fingerprint
    assert transfer("sample@v3", here, folder)["version"] == "v4"


def test_after_new_captions_a_push_sends_few_bytes_and_the_version_is_whole(
    tmp_path: Path, folder: Store, bucket: Store
) -> None:
    here = open_store(tmp_path / "here")
    captioned(tmp_path / "here", tmp_path / "a", "a picture of noise")
    for target in (folder, bucket):
        transfer("sample@v1", here, target)
    captioned(tmp_path / "here", tmp_path / "b", "quite another sentence about the noise")
    captioned(tmp_path / "here", tmp_path / "c", "a third one")
    for target in (folder, bucket):
        second, third = (transfer(f"sample@{version}", here, target) for version in ("v2", "v3"))
        assert second["bytes_sent"] < 0.1 * second["bytes"]
        assert third["bytes_sent"] < 0.1 * third["bytes"]
        for version in ("v1", "v2", "v3"):
            assert open_dataset(f"sample@{version}", target).verify(images=True).ok
    shard = open_dataset("sample@v2", bucket).manifest.shards[0]
    assert bucket.exists(map_path(shard.sha256))
    assert not bucket.exists(blob_path(shard.sha256))
    pulled = open_store(tmp_path / "pulled")
    transfer("sample@v1", bucket, pulled)
    done = transfer("sample@v3", bucket, pulled)
    assert done["bytes_sent"] < 0.1 * done["bytes"]
    assert open_dataset("sample@v3", pulled).verify(images=True).ok
    fresh = open_store(tmp_path / "fresh")
    assert transfer("sample@v3", bucket, fresh)["bytes_sent"] == done["bytes"]
    assert open_dataset("sample@v3", fresh).verify(images=True).ok
    assert collect(bucket, minimum_age=0)["files"] == 0
    assert open_dataset("sample@v3", bucket).verify().ok


def test_whole_shards_are_sent_where_other_tools_read_the_bucket(tmp_path: Path, bucket: Store) -> None:
    here = open_store(tmp_path / "here")
    captioned(tmp_path / "here", tmp_path / "a", "a picture of noise")
    captioned(tmp_path / "here", tmp_path / "b", "another sentence")
    transfer("sample@v1", here, bucket)
    transfer("sample@v2", here, bucket, whole=True)
    assert all(bucket.exists(blob_path(shard.sha256)) for shard in open_dataset("sample@v2", bucket).manifest.shards)


def test_a_truncated_or_changed_download_is_refused(tmp_path: Path, bucket: Store, folder: Store) -> None:
    here = open_store(tmp_path / "here")
    version = publish_sample(here, tmp_path / "built")
    transfer("sample", here, bucket)
    path = blob_path(version.manifest.shards[0].sha256)
    good = bucket.get(path)
    for bad in (good[:-100], good[:50] + b"x" + good[51:], b""):
        bucket.put(path, bad)
        with pytest.raises(InfiMmrError, match="arrived damaged"):
            transfer("sample", bucket, folder)
        assert list(folder.folders("datasets")) == []
        assert not open_dataset("sample", bucket).verify().ok
    assert transfer("sample", here, bucket, check=True)["files_sent"] == 1
    assert transfer("sample", bucket, folder)["version"] == "v1"
    assert open_dataset("sample", folder).verify().ok


def test_a_damaged_shard_of_which_only_the_new_bytes_would_travel_is_refused(tmp_path: Path, bucket: Store) -> None:
    here = open_store(tmp_path / "here")
    captioned(tmp_path / "here", tmp_path / "a", "a picture of noise")
    transfer("sample@v1", here, bucket)
    captioned(tmp_path / "here", tmp_path / "b", "another sentence")
    file = here.local_path(blob_path(open_dataset("sample@v2", here).manifest.shards[0].sha256))
    assert file is not None
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(data[:-20] + b"x" + data[-19:])
    with pytest.raises(InfiMmrError, match="is damaged in the source"):
        transfer("sample@v2", here, bucket)
    assert [version.label for version in list_datasets(bucket)] == ["sample@v1 (local)"]


def test_a_transfer_that_was_cut_off_goes_on_with_what_is_missing(
    tmp_path: Path, folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.dataset_version import transfer as transfers

    here = open_store(tmp_path / "here")
    version = publish_sample(here, tmp_path / "built")
    last = version.manifest.shards[-1].sha256
    plain = transfers.copy_blob

    def cut_off(source: FolderStore, target: FolderStore, sha256: str, size: int) -> None:
        if sha256 == last:
            raise InfiMmrError("the network is gone", "Run it again")
        plain(source, target, sha256, size)

    monkeypatch.setattr(transfers, "copy_blob", cut_off)
    with pytest.raises(InfiMmrError, match="network is gone"):
        transfer("sample", here, folder)
    assert list_datasets(folder) == []
    monkeypatch.setattr(transfers, "copy_blob", plain)
    done = transfer("sample", here, folder)
    assert done["files_sent"] == 1
    assert open_dataset("sample", folder).verify().ok


def test_a_full_disk_while_pushing_leaves_the_target_as_it_was(tmp_path: Path, folder: Store) -> None:
    here = open_store(tmp_path / "here")
    publish_sample(here, tmp_path / "small", name="small")
    publish_sample(here, tmp_path / "large", side=160)
    transfer("small", here, folder)
    before = sorted(entry.path for entry in folder.list())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(InfiMmrError, match="is full"):
            transfer("sample", here, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(entry.path for entry in folder.list()) == before
    assert transfer("sample", here, folder)["version"] == "v1"


def test_a_version_pushed_by_its_tag_has_the_tag_there_too(tmp_path: Path, folder: Store) -> None:
    here = open_store(tmp_path / "here")
    set_tag(publish_sample(here, tmp_path / "built"), "prod")
    assert transfer("sample@prod", here, folder)["tag"] == "prod"
    assert open_dataset("sample@prod", folder).version == "v1"
    back = open_store(tmp_path / "back")
    assert transfer("sample@v1", folder, back)["tag"] is None
    with pytest.raises(InfiMmrError):
        open_dataset("sample@prod", back)


def test_annotations_travel_when_asked(tmp_path: Path, folder: Store) -> None:
    import pyarrow as pa

    here = open_store(tmp_path / "here")
    publish_sample(here, tmp_path / "built")
    schema = pa.schema([("caption", pa.string())])
    AnnotationTable(here, "caption_images", "a" * 64, schema).append([{"key": "k", "caption": "c"}])
    assert transfer("sample", here, folder)["annotation_files"] == 0
    whole = transfer("sample", here, open_store(tmp_path / "fresh"), annotations=True)
    assert whole["bytes_sent"] <= whole["bytes"], "annotations are counted by themselves"
    assert whole["annotation_bytes"] > 0
    assert transfer("sample", here, folder, annotations=True)["annotation_files"] > 0
    assert AnnotationTable(folder, "caption_images", "a" * 64, schema).lookup(["k"]) == {"k": {"caption": "c"}}
    assert transfer("sample", here, folder, annotations=True)["annotation_files"] == 0
    segment = next(entry.path for entry in here.list("annotations") if entry.path.endswith(".parquet"))
    here.put(segment, here.get(segment)[:-1] + b"x")
    with pytest.raises(InfiMmrError, match=f"{segment} .* is damaged"):
        transfer("sample", here, open_store(folder.root / "other"), annotations=True)


class _MergedMeanwhile(FolderStore):
    """Another builder merges the annotations once they are listed, before the first is read."""

    merged = False

    def get(self, path: str) -> bytes:
        if not self.merged:
            self.merged = True
            assert AnnotationTable(open_store(self.root), "caption_images", "a" * 64).compact() == 2
        return super().get(path)


def test_annotations_travel_while_another_builder_merges_them_and_damaged_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    from shared.dataset_version import transfer as module

    monkeypatch.setattr(module, "PARALLEL_FILES", 1)
    here, there = open_store(tmp_path / "here"), open_store(tmp_path / "there")
    table = AnnotationTable(here, "caption_images", "a" * 64, pa.schema([("caption", pa.string())]))
    for key in "kl":
        table.append([{"key": key, "caption": "c"}])
    here.put(f"{table.folder}/damaged/x.parquet.7", b"damaged")
    files, size = module.copy_annotations(_MergedMeanwhile(tmp_path / "here"), there)
    arrived = list(there.list("annotations"))
    assert (files, size) == (len(arrived), sum(entry.size for entry in arrived))
    assert not any("damaged" in entry.path for entry in arrived)
    assert len(AnnotationTable(there, "caption_images", "a" * 64)) == 2


def test_a_bucket_creates_once_compares_and_sets_and_lists(bucket: Store) -> None:
    assert isinstance(bucket, BucketStore)
    assert bucket.put_new("a/b.json", b"first")
    assert not bucket.put_new("a/b.json", b"second")
    assert bucket.get("a/b.json") == b"first"
    assert bucket.get_range("a/b.json", 1, 3) == b"irs"
    assert not bucket.compare_and_set("a/b.json", b"other", b"x")
    assert not bucket.compare_and_set("a/b.json", None, b"x")
    assert bucket.compare_and_set("a/b.json", b"first", b"third")
    assert bucket.compare_and_set("a/c.json", None, b"new")
    assert sorted(entry.path for entry in bucket.list("a")) == ["a/b.json", "a/c.json"]
    assert list(bucket.folders("")) == ["a"]
    bucket.delete("a/b.json")
    bucket.delete("a/b.json")
    with pytest.raises(NotInStoreError):
        bucket.get("a/b.json")
    assert bucket.local_path("a/c.json") is None


def test_a_version_in_a_bucket_opens_through_the_cache(
    tmp_path: Path, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    here = open_store(tmp_path / "here")
    set_tag(publish_sample(here, tmp_path / "built"), "prod")
    transfer("sample", here, bucket)
    version = open_dataset("sample", bucket)
    set_tag(version, "prod")
    assert version.ledger().height == 2
    assert version.place == f"{bucket.url}/datasets/sample/v1"
    with pytest.raises(InfiMmrError, match="lies in"):
        _ = version.path
    assert not (tmp_path / "cache").exists(), "nothing is brought by looking where it is"
    assert open_dataset("sample@prod", bucket).scan().select(pl.len()).collect().item() == 20
    assert len(list(version.iterate())) == 20


@pytest.mark.slow
def test_thirty_two_racing_builders_on_a_bucket_lose_nothing(tmp_path: Path, bucket: Store) -> None:
    write_rows(tmp_path / "built", [row(number) for number in range(8)])
    done = subprocess.run(
        [sys.executable, PUBLISHERS, "race", bucket.url, tmp_path / "built", "32"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    versions = list_datasets(bucket)
    assert [version.version for version in versions] == [f"v{number}" for number in range(1, 18)]
    assert {version.manifest.recipe["number"] for version in versions} == {-1, *range(0, 32, 2)}
    assert all(version.verify().ok for version in versions)


@pytest.mark.slow
def test_two_hundred_publishers_killed_on_a_bucket_leave_whole_versions_and_gc_the_rest(
    tmp_path: Path, bucket: Store
) -> None:
    write_rows(tmp_path / "built", [row(number) for number in range(4)], shards=1)
    done = subprocess.run(
        [sys.executable, PUBLISHERS, "kill", bucket.url, tmp_path / "built", "200"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    entries = list_versions(bucket)
    versions = [open_dataset(f"{entry['dataset']}@{entry['version']}", bucket) for entry in entries]
    # Killed ones got through, and killed ones did not.
    got_through = {version.manifest.recipe["number"] // 1000 for version in versions} - {-1}
    assert 0 < len(got_through) < 200
    collected = collect(bucket)
    assert collected["files"] > 0
    assert collected["too_young"] == []
    reached = {blob_path(shard.sha256) for version in versions for shard in version.manifest.files()}
    assert {entry.path for entry in bucket.list("blobs")} == reached
    assert list(bucket.list("leases")) == []
    # After gc: what it removed was needed by none.
    assert all(version.verify().ok for version in versions)
    assert collect(bucket)["files"] == 0


def test_no_secret_is_printed_or_stored(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    here, there = open_store(tmp_path / "here"), open_store(f"{server}/secrets?sig=very-secret-query")
    publish_sample(here, tmp_path / "built")
    done = json.dumps(transfer("sample", here, there))
    assert "very-secret" not in done
    for entry in there.list():
        assert b"very-secret" not in there.get(entry.path)
    with pytest.raises(InfiMmrError) as error:
        open_store("s3://no-such-bucket/x?sig=very-secret-query").get("a")
    assert "very-secret" not in str(error.value)
    assert "very-secret" not in repr(there)


def test_credentials_and_endpoint_come_from_the_profile_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.store.bucket import _s3_config

    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[team]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    (tmp_path / ".aws" / "config").write_text("[profile team]\nregion = eu-1\nendpoint_url = http://127.0.0.1:1\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert _s3_config() == {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b%c",
        "aws_region": "eu-1",
        "aws_endpoint": "http://127.0.0.1:1",
        "allow_http": True,
    }
