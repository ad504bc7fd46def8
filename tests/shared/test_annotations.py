"""The annotation store: durable at once, found again, the same for every reader."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from shared.annotations import AnnotationTable, SegmentSetAsideError, StoredCells, merging, set_aside
from shared.annotations.merging import MANY_SEGMENTS
from shared.errors import InfiMmrError
from shared.store import Store, open_store
from shared.store.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = ("caption_images", "c" * 64)

VALUES = pa.schema([("caption", pa.string()), ("tokens", pa.int32())])


def table(store: Store, context: str = "c" * 64, **more: object) -> AnnotationTable:
    return AnnotationTable(store, "caption_images", context, VALUES, **more)  # type: ignore[arg-type]


def cell(key: str, caption: str | None = "a chart", tokens: int = 3) -> dict[str, object]:
    return {"key": key, "caption": caption, "tokens": tokens}


def test_a_stored_cell_is_found_by_another_table_on_the_same_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    table(store).append([cell("b"), cell("a", "two bars", 4)])
    assert table(open_store(tmp_path)).lookup(["a", "x"]) == {"a": {"caption": "two bars", "tokens": 4}}


def test_missing_keys_are_distinct_and_keep_their_order(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    cells.append([cell("b")])
    assert cells.missing(["z", "b", "a", "z"]) == ["z", "a"]


def test_columns_come_in_the_order_asked_for_without_unknown_keys(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    cells.append([cell("a"), cell("b", None), cell("c")])
    found = cells.columns(["c", "nothing", "b"])
    assert found is not None
    assert found.column("key").to_pylist() == ["c", "b"]
    assert found.column("caption").to_pylist() == ["a chart", None]


def test_another_context_sees_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    table(store, "c" * 64).append([cell("a")])
    assert table(store, "d" * 64).missing(["a"]) == ["a"]


def test_a_bulk_table_needs_no_schema_and_is_typed_alike_afterwards(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    AnnotationTable(store, "minhash", "e" * 64).append_table(
        pa.table({"key": ["a"], "hash": pa.array([7], pa.uint64())})
    )
    again = AnnotationTable(store, "minhash", "e" * 64)
    assert again.columns(["a"]).schema.field("hash").type == pa.uint64()  # type: ignore[union-attr]
    assert AnnotationTable(store, "minhash", "f" * 64).columns(["a"]) is None


def test_dictionaries_without_value_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InfiMmrError, match="no value columns"):
        AnnotationTable(open_store(tmp_path), "minhash", "e" * 64).append([{"key": "a", "x": 1}])


SETTLED = min(
    ("one answer", "another answer"),
    key=lambda text: hashlib.sha256(json.dumps(cell("a", text), sort_keys=True).encode()).digest(),
)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_answers_for_one_key_are_settled_alike_whatever_the_order(tmp_path: Path, order: tuple[int, int]) -> None:
    store = open_store(tmp_path)
    answers = ["one answer", "another answer"]
    for index in order:
        table(store).append([cell("a", answers[index])])
    settled = {table(store).lookup(["a"])["a"]["caption"]}
    both = table(store)
    both.append([cell("b")])
    both.compact()
    settled.add(table(store).lookup(["a"])["a"]["caption"])
    settled.add(both.lookup(["a"])["a"]["caption"])
    assert settled == {SETTLED}


def test_the_writer_itself_sees_the_settled_answer(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    cells.append([cell("a", "one answer")])
    cells.append([cell("a", "another answer")])
    assert cells.lookup(["a"])["a"]["caption"] == SETTLED
    assert len(cells) == 1


def test_many_small_segments_are_merged_when_the_table_is_opened(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    writer = table(store)
    for number in range(MANY_SEGMENTS + 2):
        writer.append([cell(f"{number:04d}", f"caption {number}")])
    reader = table(store)
    assert len(reader) == MANY_SEGMENTS + 2
    assert sum(entry.path.endswith(".parquet") for entry in store.list(reader.folder)) == 1
    assert table(store).lookup(["0007"])["0007"]["caption"] == "caption 7"


def test_merging_twice_leaves_the_same_single_segment(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    for number in range(5):
        cells.append([cell(str(number))])
    assert cells.compact() == 5
    before = sorted(entry.path for entry in cells.store.list(cells.folder))
    assert cells.compact(at_least=1) == 1
    assert sorted(entry.path for entry in cells.store.list(cells.folder)) == before


def test_what_was_asked_is_told_in_words_beside_the_cells(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    cells = table(store, about={"prompt": "Describe"})
    cells.append([cell("a")])
    assert json.loads(store.get(f"{cells.folder}/about.json")) == {"prompt": "Describe"}


DAMAGES = {
    "no Parquet": lambda data: b"PAR1 nothing",
    "one bit": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", [AnnotationTable, StoredCells])
def test_a_damaged_segment_is_named_set_aside_and_its_cells_are_asked_again(
    tmp_path: Path, kind: type[AnnotationTable], damage: Callable[[bytes], bytes]
) -> None:
    store = open_store(tmp_path)
    table(store).append([cell("a"), cell("b")])
    path = next(entry.path for entry in store.list("annotations") if entry.path.endswith(".parquet"))
    table(store).append([cell("c")])
    good = store.get(path)
    store.put(path, damage(good))
    set_aside()
    again = kind(store, "caption_images", "c" * 64, VALUES)
    with contextlib.suppress(SegmentSetAsideError):  # where its keys could be read and its values not
        again.columns(["a", "c"])
    again.refresh()
    assert again.missing(["a", "b", "c"]) == ["a", "b"]
    assert [path in told for told in set_aside()] == [True]
    again.append([cell("a"), cell("b")])
    assert store.get(path) == good
    assert again.lookup(["a"])["a"]["caption"] == "a chart"


class _SlowReader(FolderStore):
    """Gets damaged bytes once; until it goes on, another reader set the file aside and stored its cells anew."""

    meanwhile: Callable[[], None] | None = None

    def get(self, path: str) -> bytes:
        data = super().get(path)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return data


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", [AnnotationTable, StoredCells])
def test_a_slow_reader_of_damaged_bytes_removes_no_segment_that_was_stored_anew_meanwhile(
    tmp_path: Path, kind: type[AnnotationTable], damage: Callable[[bytes], bytes]
) -> None:
    store = open_store(tmp_path)
    table(store).append([cell("a"), cell("b")])
    path = next(entry.path for entry in store.list("annotations") if entry.path.endswith(".parquet"))
    good = store.get(path)
    store.put(path, damage(good))

    def another() -> None:
        again = table(store)
        again.append([cell(key) for key in again.missing(["a", "b"])])

    slow = _SlowReader(tmp_path)
    slow.meanwhile = another
    reader = kind(slow, "caption_images", "c" * 64, VALUES)
    assert reader.missing(["a", "b"]) == []
    with contextlib.suppress(SegmentSetAsideError):
        assert reader.lookup(["a"])["a"]["caption"] == "a chart"
    assert store.get(path) == good


def test_a_large_table_is_moved_into_partitions_and_few_keys_read_few_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "PARTITIONED_BYTES", 1)
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(400)]
    store = open_store(tmp_path)
    for start in range(0, 400, 100):
        table(store).append([cell(key, key[:9]) for key in keys[start : start + 100]])
    assert table(store).compact() == 4
    names = [entry.path.split("/")[3:] for entry in store.list("annotations") if entry.path.endswith(".parquet")]
    assert {folder for folder, _ in names} == {key[:2] for key in keys}
    table(store).append([cell("a key of another form"), cell(keys[0], keys[0][:9])])
    few = table(store)
    assert few.lookup([keys[7]])[keys[7]]["caption"] == keys[7][:9]
    assert few._table is not None
    assert few._table.num_rows < 20
    assert few.missing([*keys, "z"]) == ["z"]
    assert len(few) == len(table(store)) == 401
    assert table(store).compact(at_least=1) > 0
    assert len(StoredCells(store, "caption_images", "c" * 64, VALUES)) == 401
    assert table(store).missing(["a key of another form"]) == []


def test_nothing_appended_writes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    table(store).append([])
    assert list(store.list("annotations")) == []


APPEND_SOME = """
import random, sys
import pyarrow as pa
from shared.annotations import AnnotationTable
from shared.store import Store, open_store
root, seed = sys.argv[1], int(sys.argv[2])
values = pa.schema([("caption", pa.string()), ("tokens", pa.int32())])
order = random.Random(seed)
for _ in range(20):
    key = str(order.randrange(60))
    AnnotationTable(open_store(root), "caption_images", "c" * 64, values).append(
        [{"key": key, "caption": f"caption {key} by {seed}", "tokens": 1}]
    )
    if order.random() < 0.3:
        AnnotationTable(open_store(root), "caption_images", "c" * 64, values).compact()
"""


def test_four_processes_appending_and_merging_at_once_lose_no_cell(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", APPEND_SOME, str(tmp_path), str(seed)] for seed in range(4)]
    builders = [subprocess.Popen(command) for command in commands]
    assert [builder.wait(timeout=120) for builder in builders] == [0] * 4
    written: set[str] = set()
    for seed in range(4):
        order = random.Random(seed)
        for _ in range(20):
            written.add(str(order.randrange(60)))
            order.random()
    first, second = table(open_store(tmp_path)), table(open_store(tmp_path))
    assert first.missing(sorted(written)) == []
    assert first.lookup(sorted(written)) == second.lookup(sorted(written))


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where several builders write: a folder, and S3 on this machine."""
    if request.param == "folder":
        yield str(tmp_path)
        return
    pytest.importorskip("moto")
    from benchmarks.s3_server import s3_server

    with s3_server() as url:
        yield f"{url}/annotations-of-many"


def test_sixteen_builders_appending_merging_and_moving_at_once_lose_no_cell(
    shared_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "PARTITIONED_BYTES", 4096)
    keys = [hashlib.sha256(str(number % 7).encode() + bytes([number % 40])).hexdigest() for number in range(96)]

    def build(number: int) -> None:
        own = open_store(shared_store)
        for key in keys[number * 6 : number * 6 + 6]:
            kind = StoredCells if number % 4 == 3 else AnnotationTable
            kind(own, "caption_images", "c" * 64, VALUES).append([cell(key, f"{key} by {number}")])
        if number % 5 == 0:
            table(own).compact()
        assert table(own).missing(keys[number * 6 : number * 6 + 6]) == []

    with ThreadPoolExecutor(16) as builders:
        list(builders.map(build, range(16)))
    first, second = table(open_store(shared_store)), StoredCells(open_store(shared_store), *HERE, VALUES)
    assert first.missing(keys) == []
    assert first.lookup(keys) == second.lookup(keys)
    first.compact()
    assert table(open_store(shared_store)).lookup(keys) == second.lookup(keys)


def test_rows_are_those_of_columns_in_any_order_and_uncopied_where_all_are_asked_for(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    cells.append([cell("b"), cell("a", None)])
    cells.append([cell("c", "three")])
    some = cells.rows(["c", "nothing", "b"])
    assert some is not None
    assert sorted(some.column("key").to_pylist()) == ["b", "c"]
    assert cells.rows(["a", "b", "c"]) is cells._table
    assert table(open_store(tmp_path / "empty")).rows(["a"]).num_rows == 0  # type: ignore[union-attr]


def test_what_a_refreshed_table_appends_is_read_from_the_store_only(tmp_path: Path) -> None:
    cells = table(open_store(tmp_path))
    assert cells.missing(["a", "b"]) == ["a", "b"]
    cells.refresh()
    cells.append([cell("a")])
    cells.append([cell("a", "another answer"), cell("b")])
    assert cells._table is None
    assert cells._fresh == []
    assert cells.missing(["a", "b", "c"]) == ["c"]
    assert len(cells) == 2


@pytest.mark.parametrize("kind", [AnnotationTable, StoredCells])
def test_cells_that_other_code_made_are_found_and_told_apart(tmp_path: Path, kind: type[AnnotationTable]) -> None:
    """Also after the segments were merged, and cells from before code said its name."""
    store = open_store(tmp_path)

    def opened(made_by: str) -> AnnotationTable:
        return kind(store, "caption_images", "c" * 64, VALUES, made_by=made_by)

    for maker, keys in (("", "ab"), ("vllm 1, code x", "cd"), ("vllm 2, code x", "ef")):
        for key in keys:
            opened(maker).append([cell(key)])
    expected = {"": 2, "vllm 1, code x": 1}
    now = opened("vllm 2, code x")
    assert now.missing(["a", "b", "c", "e", "z"]) == ["z"]
    assert now.made_elsewhere(["a", "b", "c", "e", "z"]) == expected
    assert now.compact() > 0
    assert opened("vllm 2, code x").made_elsewhere(["a", "b", "c", "e", "z"]) == expected
    assert opened("").made_elsewhere(["a"]) == {}, "who does not say what makes its cells is told nothing"
