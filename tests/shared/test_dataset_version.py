from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.sample_versions import draft, publish_sample, row, write_rows
from shared.dataset_version import find_by_build_key, list_datasets, open_dataset, publish, set_tag
from shared.dataset_version.delta import LARGEST, SMALLEST, cuts
from shared.dataset_version.leases import GC_LEASE, Lease, collecting, publishing
from shared.dataset_version.manifest import Shard, complete, manifest_bytes, read_manifest
from shared.dataset_version.names import manifest_path
from shared.errors import InfiMmrError, UsageError
from shared.schema import ROW_SCHEMA
from shared.store import StoreFullError, open_store
from shared.store.folder import FolderStore

PUBLISHERS = Path(__file__).with_name("publishers.py")


def run_publishers(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, PUBLISHERS, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_a_version_is_published_opened_and_read(tmp_path: Path) -> None:
    published = publish_sample(tmp_path / "store", tmp_path / "built")
    version = open_dataset("sample@v1", tmp_path / "store")
    assert version.manifest == published.manifest
    assert version.label == "sample@v1 (local)"
    assert version.manifest.rows == version.scan().select(pl.len()).collect().item() == 20
    assert version.ledger().height == 2
    assert version.verify(images=True).ok


def test_the_folder_of_a_version_opens_with_polars_and_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    assert pl.read_parquet(f"{version.path}/*.parquet").height == 20
    loaded = version.to_datasets()
    assert loaded.num_rows == 20
    assert loaded[0]["images"][0].size == (24, 24)
    by_folder = datasets.load_dataset(str(version.path), split="train", cache_dir=str(tmp_path / "cache2"))
    assert by_folder.num_rows == 20


def test_equal_content_is_one_version_and_other_content_the_next(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert publish_sample(store, tmp_path / "a").version == "v1"
    assert publish_sample(store, tmp_path / "b").version == "v1"
    assert publish_sample(store, tmp_path / "c", caption="other words").version == "v2"
    assert [version.version for version in list_datasets(store)] == ["v1", "v2"]


def test_a_fingerprint_covers_recipe_inputs_shards_and_ledger_and_nothing_of_how_they_were_built(
    tmp_path: Path,
) -> None:
    made = publish_sample(tmp_path / "store", tmp_path / "built").manifest

    def identity(shards: list[Shard] = made.shards, ledger: Shard | None = made.ledger, **changes: object) -> str:
        return complete(draft(**changes), shards, ledger, "v1").fingerprint

    others = [{**made.inputs[0].model_dump(), "fingerprint": "e" * 64}]
    changed = [identity(profile="full"), identity(recipe={"name": "sample"}), identity(inputs=others)]
    changed += [identity(name="other", recipe=made.recipe), identity(made.shards[:0]), identity(ledger=None)]
    assert len({made.fingerprint, *changed}) == 7
    assert {identity(), identity(build_key="x"), identity(counts=[]), identity(code_commit="c")} == {made.fingerprint}


def test_a_build_is_found_again_by_its_key(tmp_path: Path) -> None:
    published = publish_sample(tmp_path / "store", tmp_path / "built")
    found = find_by_build_key(tmp_path / "store", "sample", "key")
    assert found is not None
    assert found.version == published.version
    assert find_by_build_key(tmp_path / "store", "sample", "other") is None
    assert find_by_build_key(tmp_path / "store", "absent", "key") is None


def test_a_plain_name_is_the_highest_number_unless_latest_is_tagged(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = publish_sample(store, tmp_path / "a")
    publish_sample(store, tmp_path / "b", caption="other words")
    assert open_dataset("sample", store).version == "v2"
    assert open_dataset("sample@latest", store).version == "v2"
    assert set_tag(first, "prod") is None
    assert open_dataset("sample@prod", store).version == "v1"
    assert set_tag(open_dataset("sample", store), "prod") == "v1"
    set_tag(first, "latest")
    assert open_dataset("sample", store).version == "v1"


@pytest.mark.parametrize(
    "reference", ["../sample", "sample@../v1", "Sample", "sample@", "sample@v1/..", "a/b", "", "-x", "sample@V1"]
)
def test_a_crafted_name_is_refused(tmp_path: Path, reference: str) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    with pytest.raises(UsageError):
        open_dataset(reference, tmp_path / "store")


@pytest.mark.parametrize(("written", "step"), [(0, "Build the version again"), (99, "Update infi-mmr")])
def test_a_manifest_of_another_age_says_which_of_the_two_to_renew(tmp_path: Path, written: int, step: str) -> None:
    manifest = publish_sample(tmp_path / "store", tmp_path / "built").manifest
    fields = json.loads(manifest_bytes(manifest)) | {"format": written}
    with pytest.raises(InfiMmrError, match=f"has format {written}") as error:
        read_manifest(json.dumps(fields).encode(), "it")
    assert error.value.next_step.startswith(step)


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    set_tag(version, "prod")
    with pytest.raises(UsageError, match="Did you mean sample"):
        open_dataset("smaple", tmp_path / "store")
    with pytest.raises(UsageError, match="Did you mean prod"):
        open_dataset("sample@prud", tmp_path / "store")
    with pytest.raises(UsageError, match="no version v9"):
        open_dataset("sample@v9", tmp_path / "store")


@pytest.mark.parametrize("field", ["file", "sha256"])
@pytest.mark.parametrize("value", ["../../x.parquet", "/etc/passwd", "a/b.parquet", ".x.parquet", "ab"])
def test_a_foreign_manifest_cannot_name_a_file_elsewhere(tmp_path: Path, field: str, value: str) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    shard = version.manifest.shards[0].model_copy(update={field: value})
    crafted = version.manifest.model_copy(update={"shards": [shard, *version.manifest.shards[1:]]})
    crafted = crafted.model_copy(update={"fingerprint": crafted.content_fingerprint()})
    target = version.path / "manifest.json"
    target.write_bytes(manifest_bytes(crafted))
    with pytest.raises(InfiMmrError, match="cannot be read"):
        open_dataset("sample@v1", tmp_path / "store")


def test_any_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    data = manifest_bytes(version.manifest)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(InfiMmrError):
            read_manifest(bytes(damaged), "it")


def test_any_flipped_bit_of_a_shard_is_found_and_the_shard_named(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    file = version.files()[1]
    data = file.read_bytes()
    for position in random.Random(3).sample(range(len(data)), 40):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        problems = version.verify().problems
        assert [problem.file for problem in problems] == [file.name]
        assert "damaged" in problems[0].problem
        assert "build it again" in problems[0].next_step
    file.write_bytes(data)
    assert version.verify().ok


def test_a_truncated_or_absent_shard_is_found(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    first, second = version.files()
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    assert [problem.file for problem in version.verify().problems] == [first.name, second.name]


def test_building_again_heals_a_damaged_shard(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    version.files()[0].write_bytes(b"damaged")
    assert not version.verify().ok
    assert publish_sample(tmp_path / "store", tmp_path / "again").version == "v1"
    assert version.verify(images=True).ok


def test_verify_decodes_pictures_and_compares_their_hashes(tmp_path: Path) -> None:
    broken = row(1)
    broken["images"] = [{"bytes": row(2)["images"][0]["bytes"], "path": "x.png"}]
    not_a_picture = row(3, images=[{"bytes": b"no picture", "path": "y.png"}])
    import hashlib

    not_a_picture["image_hashes"] = [hashlib.sha256(b"no picture").hexdigest()]
    version = publish(tmp_path / "store", draft(), write_rows(tmp_path / "built", [broken, not_a_picture, row(4)]))
    problems = [problem.problem for problem in version.verify(images=True).problems]
    assert any("another image than its hash" in problem for problem in problems)
    assert any("cannot be decoded" in problem for problem in problems)
    assert version.verify(images=False).ok


def test_verify_finds_wrong_columns_and_ids_that_occur_twice(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    files = write_rows(tmp_path / "built", [row(1), row(1), row(2)])
    twice = publish(tmp_path / "store", draft("twice"), files)
    assert "ids occur" in twice.verify().problems[0].problem
    table = pq.read_table(files[0])
    pq.write_table(table.drop_columns(["answer"]), files[0])
    lacking = publish(tmp_path / "store", draft("lacking"), files)
    assert "columns ['answer'] are missing" in lacking.verify().problems[0].problem


def test_ranks_divide_the_rows_completely_and_the_same_way_each_time(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built", range(37))
    for seed in (None, 5):
        parts = [[r["id"] for r in version.iterate(rank, 3, seed)] for rank in range(3)]
        assert [len(part) for part in parts] == [len(version.iterate(rank, 3, seed)) for rank in range(3)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len({name for part in parts for name in part}) == 37 == sum(map(len, parts))
        assert parts == [[r["id"] for r in version.iterate(rank, 3, seed)] for rank in range(3)]
    stored = [r["id"] for r in version.iterate()]
    assert stored == version.scan().collect()["id"].to_list()
    shuffled = version.iterate(seed=5)
    first = [r["id"] for r in shuffled]
    shuffled.set_epoch(1)
    assert sorted(first) == sorted(stored) != first != [r["id"] for r in shuffled]
    with pytest.raises(UsageError):
        version.iterate(rank=3, world_size=3)


def test_workers_of_a_torch_loader_divide_a_ranks_rows(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader, IterableDataset

    class Stream(IterableDataset):
        def __init__(self, rows: object) -> None:
            self.rows = rows

        def __iter__(self) -> object:
            return iter(self.rows)

    version = publish_sample(tmp_path / "store", tmp_path / "built", range(25))
    rows = version.iterate(rank=1, world_size=2, seed=1)
    ids = [r["id"] for r in DataLoader(Stream(rows), batch_size=None, num_workers=2)]
    assert sorted(ids) == sorted(r["id"] for r in rows)


@pytest.mark.slow
def test_thirty_two_racing_builders_on_a_folder_lose_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "built", [row(number) for number in range(8)])
    run_publishers("race", tmp_path / "store", tmp_path / "built", 32)
    versions = list_datasets(tmp_path / "store")
    # 16 with content of their own, 16 with equal content.
    assert [version.version for version in versions] == [f"v{number}" for number in range(1, 18)]
    assert {version.manifest.recipe["number"] for version in versions} == {-1, *range(0, 32, 2)}
    assert all(version.verify().ok for version in versions)
    assert not list((tmp_path / "store" / "datasets" / "raced").glob(".*"))


@pytest.mark.slow
def test_publishers_killed_at_random_leave_whole_versions_only(tmp_path: Path) -> None:
    write_rows(tmp_path / "built", [row(number) for number in range(8)])
    run_publishers("kill", tmp_path / "store", tmp_path / "built", 40)
    versions = list_datasets(tmp_path / "store")
    assert versions
    assert all(version.verify().ok for version in versions)
    for name in {version.name for version in versions}:
        numbers = sorted(int(version.version[1:]) for version in versions if version.name == name)
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_full_disk_while_publishing_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    publish_sample(tmp_path / "store", tmp_path / "built")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    small = [row(number, caption="small") for number in range(2)]
    large = [row(number, caption="large", side=200) for number in range(4)]
    files = [*write_rows(tmp_path / "small", small, 1)]
    files.append(write_rows(tmp_path / "large", large, 1)[0].rename(tmp_path / "large" / "train-2.parquet"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFullError, match="is full") as error:
            publish(tmp_path / "store", draft(), files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_gc_waits_for_nobody_and_publishers_wait_for_gc(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    with publishing(store), pytest.raises(InfiMmrError, match="somebody publishes"), collecting(store):
        pass
    with collecting(store), pytest.raises(InfiMmrError, match="another gc"), collecting(store):
        pass
    begun = threading.Event()

    def publishes() -> None:
        with publishing(store):
            begun.set()

    publisher = threading.Thread(target=publishes)
    with collecting(store):
        publisher.start()
        assert not begun.wait(0.5), "it has a lease, and begins when gc is done"
    publisher.join(60)
    assert begun.is_set()
    assert list(store.list("leases")) == []


def test_a_lease_of_a_process_that_is_gone_counts_as_dead(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    held = json.loads(Lease(store, GC_LEASE).content())
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    store.put(GC_LEASE, json.dumps(held | {"pid": int(done.stdout)}).encode())
    with collecting(store) as dead:
        assert dead == []
    store.put(GC_LEASE, json.dumps(held | {"holder": "elsewhere", "expires": 0.0}).encode())
    with collecting(store):
        pass


def test_pieces_are_cut_by_content_and_found_again_at_another_offset() -> None:
    random_bytes = np.random.default_rng(1).integers(0, 256, 3_000_000, dtype=np.uint8)
    found = list(cuts(random_bytes))
    assert found[0][0] == 0
    assert found[-1][1] == len(random_bytes)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    assert all(SMALLEST <= stop - start <= LARGEST for start, stop in found[:-1])
    pieces = {random_bytes[start:stop].tobytes() for start, stop in found}
    moved = np.concatenate([np.arange(777, dtype=np.uint8), random_bytes])
    again = [moved[start:stop].tobytes() for start, stop in cuts(moved)]
    assert sum(len(piece) for piece in again if piece in pieces) > 0.95 * len(random_bytes)
    assert list(cuts(np.zeros(0, dtype=np.uint8))) == []
    assert sum(stop - start for start, stop in cuts(np.zeros(1_000_000, dtype=np.uint8))) == 1_000_000


def test_a_version_without_rows_can_be_read(tmp_path: Path) -> None:
    version = publish(tmp_path / "store", draft("empty"), [])
    assert version.scan().collect().height == 0
    assert version.scan().collect_schema().names() == ROW_SCHEMA.names
    assert list(version.iterate()) == []
    assert version.ledger().height == 0
    assert version.verify().ok


def test_the_manifest_names_no_secret_and_no_path(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    store = version.store
    assert isinstance(store, FolderStore)
    assert str(tmp_path).encode() not in store.get(manifest_path("sample", "v1"))
