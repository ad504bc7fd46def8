"""An unchanged folder of pictures is recognised at a glance, and every change of it is noticed."""

from __future__ import annotations

import os

import polars as pl
import pytest

from data_engine.intake.image_places import ImagePlaces
from data_engine.intake.ingest import ingest
from data_engine.sources import file_hashes as memory
from data_engine.sources import folder_listing, virl39k
from data_engine.sources.folder_listing import list_files
from data_engine.sources.places import find_place
from data_engine.sources.virl39k import Virl39k

NAMES = ["images/a.png", "images/deep/b.png", "c.png", "images/absent.png"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in NAMES[:3]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0" * 100)
    return root


def rewrite(file):
    """Other bytes of the same length under the same modification time: only the change time tells."""
    times = file.stat()
    file.write_bytes(b"1" * times.st_size)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def swap(file):
    other = file.with_name("other")
    other.write_bytes(b"1" * file.stat().st_size)
    other.replace(file)


def test_an_untouched_folder_has_one_stamp(folder):
    (folder / "images" / "nobody-names-me.png").write_bytes(b"x")
    before = list_files(folder, NAMES)
    (folder / "images" / "nobody-names-me.png").unlink()
    assert list_files(folder, reversed(NAMES)) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: rewrite(root / "images" / "a.png"),
        lambda root: swap(root / "images" / "deep" / "b.png"),
        lambda root: (root / "c.png").unlink(),
        lambda root: (root / "images" / "absent.png").write_bytes(b"there now"),
        lambda root: (root / "images" / "deep").rename(root / "images" / "elsewhere"),
        lambda root: os.truncate(root / "c.png", 99),
    ],
    ids=["rewritten", "swapped", "gone", "new", "folder moved", "cut"],
)
def test_every_change_gives_another_stamp(folder, change):
    before = list_files(folder, NAMES)
    change(folder)
    after = list_files(folder, NAMES)
    assert after is not None
    assert after.stamp != before.stamp


def test_a_link_or_an_odd_name_leaves_it_to_a_look_at_every_file(folder):
    assert list_files(folder, ["images/./a.png"]) is None
    (folder / "link.png").symlink_to(folder / "c.png")
    assert list_files(folder, ["link.png"]) is None
    (folder / "linked").symlink_to(folder / "images")
    assert list_files(folder, ["linked/a.png"]) is None


def test_names_that_no_source_reads_do_not_count(folder):
    refused = ["../c.png", "/etc/passwd", "https://example.org/x.png", "images\\a.png", "data:image", "images/.."]
    assert list_files(folder, [*NAMES, *refused]) == list_files(folder, NAMES)


def test_a_fresh_folder_is_not_settled(folder, monkeypatch):
    assert not list_files(folder, NAMES).settled
    monkeypatch.setattr(folder_listing, "YOUNG_SECONDS", -60.0)
    assert list_files(folder, NAMES).settled


def source(folder):
    return Virl39k(find_place(str(folder), "main", (), what="test"))


@pytest.fixture
def settled(folder, tmp_path, monkeypatch):
    """A source whose files count as old, opened once."""
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_listing, "YOUNG_SECONDS", -60.0)
    monkeypatch.setattr(memory, "YOUNG_SECONDS", -60.0)
    rows = {"question": ["<image>x?"] * 2, "answer": ["1", "2"], "image": [["images/a.png"], ["images/absent.png"]]}
    pl.DataFrame(rows).write_parquet(folder / "39Krelease.parquet")
    return folder, source(folder)


def test_a_source_opened_again_asks_about_no_single_picture(settled, monkeypatch):
    folder, first = settled
    asked, real = [], memory._stamp

    def noted(path):
        asked.append(path.name)
        return real(path)

    monkeypatch.setattr(memory, "_stamp", noted)  # whoever asks for a file's hash asks for its size and times first
    again = source(folder)
    assert (again.fingerprint(), again.revision) == (first.fingerprint(), first.revision)
    assert asked == ["39Krelease.parquet"]


@pytest.mark.parametrize("name", ["images/a.png", "images/absent.png", "39Krelease.parquet"])
def test_a_source_whose_files_changed_is_another_one(settled, name):
    folder, first = settled
    if name.endswith("parquet"):
        rows = {"question": ["<image>y?"], "answer": ["1"], "image": [["images/a.png"]]}
        pl.DataFrame(rows).write_parquet(folder / name)
    elif (folder / name).exists():
        rewrite(folder / name)
    else:
        (folder / name).write_bytes(b"there now")
    assert source(folder).fingerprint() != first.fingerprint()


def test_a_folder_that_was_fresh_when_opened_is_remembered_once_it_was_read(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    pl.DataFrame({"question": ["<image>x?"], "answer": ["1"], "image": [["c.png"]]}).write_parquet(folder / "x.parquet")
    kept = []
    monkeypatch.setattr(virl39k, "remember", lambda *words: kept.append(words))
    fresh = source(folder)
    assert not kept
    for module in (folder_listing, memory):
        monkeypatch.setattr(module, "YOUNG_SECONDS", -60.0)
    ingest(fresh, ImagePlaces(tmp_path / "spool"), None)
    assert [value for _, value in kept] == [fresh.fingerprint()]


def test_a_picture_named_inside_a_struct_counts_and_embedded_bytes_do_not_ask_for_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    images = [[{"bytes": b"inside", "path": "images/a.png"}], [{"bytes": None, "path": "c.png"}]]
    rows = {"question": ["<image>x?"] * 2, "answer": ["1", "2"], "image": images}
    pl.DataFrame(rows).write_parquet(folder / "x.parquet")
    first = source(folder).fingerprint()
    rewrite(folder / "images" / "a.png")
    assert source(folder).fingerprint() == first
    rewrite(folder / "c.png")
    assert source(folder).fingerprint() != first
