from __future__ import annotations

import errno
import hashlib
import mmap
import os
import pickle
import random
import resource
import threading
from pathlib import Path

import pytest

from shared.errors import InfiMmrError
from shared.store import (
    NotInStoreError,
    StoreFullError,
    StorePathError,
    default_store_url,
    open_store,
    shown_url,
)
from shared.store.folder import FolderStore, copy_file

OUTSIDE = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "",
    ".hidden",
    "a/.b",
    "a\\b",
    "a/b\n",
    "a b",
    "s3://x",
    "a/\x00",
    "é",
]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    opened = open_store(tmp_path / "store")
    assert isinstance(opened, FolderStore)
    return opened


def test_a_file_comes_back_whole_and_in_ranges(store: FolderStore) -> None:
    assert store.put_new("a/b.bin", b"0123456789")
    assert store.get("a/b.bin") == b"0123456789"
    assert store.get_range("a/b.bin", 3, 4) == b"3456"
    assert store.head("a/b.bin").size == 10
    assert [entry.path for entry in store.list("a")] == ["a/b.bin"]
    assert list(store.folders("")) == ["a"]
    assert b"".join(store.pieces("a/b.bin")) == b"0123456789"


def test_creating_what_exists_changes_nothing(store: FolderStore) -> None:
    assert store.put_new("a", b"first")
    assert not store.put_new("a", b"second")
    assert store.get("a") == b"first"


def test_one_of_many_creating_threads_wins(store: FolderStore) -> None:
    wins: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: wins.append(n) if store.put_new("claim", b"%d" % n) else None)
        for n in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.get("claim") == b"%d" % wins[0]


def test_compare_and_set_loses_no_increment_among_threads(store: FolderStore) -> None:
    def add_ten() -> None:
        for _ in range(10):
            while True:
                before = store.get("count") if store.exists("count") else None
                if store.compare_and_set("count", before, b"%d" % (int(before or 0) + 1)):
                    break

    threads = [threading.Thread(target=add_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("count") == b"40"


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_outside(store: FolderStore, path: str) -> None:
    for call in (store.get, store.head, store.exists, store.delete, store.local_path, lambda p: store.put(p, b"x")):
        with pytest.raises(StorePathError):
            call(path)


def test_a_symbolic_link_inside_the_store_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    store.put("a/here", b"")
    (store.root / "a" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InfiMmrError):
        store.get("a/link")


def test_what_is_absent_is_named(store: FolderStore) -> None:
    with pytest.raises(NotInStoreError, match="a/b is not in the store"):
        store.get("a/b")
    assert list(store.list("a")) == []
    store.delete("a/b")


def test_a_store_travels_to_another_process(store: FolderStore) -> None:
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"  # noqa: S301


def test_a_shown_address_has_no_credentials() -> None:
    assert shown_url("https://user:secret@host/path?sig=secret#secret") == "https://host/path"
    assert shown_url("s3://bucket/prefix") == "s3://bucket/prefix"
    assert shown_url("./store") == "./store"


def test_the_store_is_the_option_then_the_environment_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFI_MMR_STORE", raising=False)
    assert default_store_url() == "./store"
    monkeypatch.setenv("INFI_MMR_STORE", "s3://team")
    assert default_store_url() == "s3://team"
    assert default_store_url("/here") == "/here"


def test_a_bucket_without_credentials_says_which_keys_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at which address of a cloud a machine asks for its role."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InfiMmrError, match="no credentials for the store s3://bucket/rows") as error:
        open_store("s3://bucket/rows").get("a")
    assert "AWS_ACCESS_KEY_ID" in error.value.next_step
    assert "127.0.0.1" not in str(error.value)


def test_an_address_that_cannot_be_opened_is_one_line_without_its_secret() -> None:
    with pytest.raises(InfiMmrError) as error:
        open_store("nothing://user:secret@host/path")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_no_file_behind(store: FolderStore) -> None:
    store.put_new("before", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(StoreFullError, match=r"disk of the store .* is full\. Free space"):
            store.put_new("after", b"x" * (1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["before"]


def test_creation_works_where_the_file_system_has_no_hard_links(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", no_links)
    assert store.put_new("a", b"first")
    assert not store.put_new("a", b"second")
    assert store.get("a") == b"first"


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) + 1])
@pytest.mark.parametrize("stretch", [mmap.ALLOCATIONGRANULARITY, 1 << 18, 32 << 20])
def test_a_copied_file_holds_the_bytes_that_its_hash_tells(
    store: FolderStore, tmp_path: Path, size: int, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.store.folder._WRITE_OUT_BYTES", stretch)
    data = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, store.temporary() as target:
        assert copy_file(source.fileno(), target) == (hashlib.sha256(data).hexdigest(), size)
        assert target.read_bytes() == data


@pytest.mark.parametrize("behaviour", ["refuses", "stops early"])
def test_a_file_is_copied_where_the_kernel_cannot_copy_it(
    store: FolderStore, tmp_path: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.copy_file_range

    def cannot(source: int, target: int, count: int, at: int, to: int) -> int:
        if behaviour == "refuses":
            raise OSError(errno.EXDEV, "another file system")
        return plain(source, target, min(count, 1000), at, to) if at < 3000 else 0

    monkeypatch.setattr(os, "copy_file_range", cannot)
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, store.temporary() as target:
        assert copy_file(source.fileno(), target) == (hashlib.sha256(data).hexdigest(), len(data))
        assert target.read_bytes() == data


def test_views_and_pieces_are_the_same_bytes(store: FolderStore) -> None:
    data = random.Random(2).randbytes(2_500_000)
    store.put("a", data)
    assert b"".join(store.pieces("a")) == b"".join(bytes(view) for view in store.views("a")) == data
