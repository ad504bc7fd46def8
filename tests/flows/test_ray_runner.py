"""The Ray runner against the local one, on clusters of several nodes simulated on this machine.

The asks go to a stand-in server (no model), so that losses can be timed; whole builds with the bundled checkpoint are
in test_ray_builds.py.
"""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from data_engine.blocks import Parts
from data_engine.intake.contents import hash_contents
from data_engine.runners.local import LocalRunner
from data_engine.scratch import passing_scratch
from data_engine.step import BenchmarkItems, StepContext
from data_engine.stored_asks import Kept, StoredAsks, write_asks
from shared.annotations import AnnotationTable
from shared.errors import InfiMmrError
from shared.progress import Progress
from shared.store import open_store
from shared.vlm import EngineSpec, Sampling
from shared.vlm.checkpoint import engine_identity

pytestmark = pytest.mark.slow


def loaded(name, path):
    """A file of the repository that is no package's module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_module = loaded("standin", "tests/standin.py")
_world = loaded("step_world", "tests/data_engine/conftest.py")
_drawn = loaded("drawn_texts", "benchmarks/drawn_texts.py")
_pieces = loaded("pieces", "tests/data_engine/test_pieces.py")

GREEDY = Sampling(max_tokens=4)
POOLING = EngineSpec(model="tiny-vl", runner="pooling")


class Pictures:
    """Pictures by name; `deadly` ones end the process that reads them, `gone` ones cannot be read."""

    def __init__(self, deadly=(), gone=()):
        self.deadly, self.gone = set(deadly), set(gone)

    def get(self, sha256):
        if sha256 in self.deadly:
            os._exit(9)
        if sha256 in self.gone:
            raise OSError("disk error")
        return b"\x89PNG" + sha256.encode() * 50


@pytest.fixture(scope="module")
def standin():
    server = _module.StandIn(seconds=0.01)
    yield server
    server.close()


@pytest.fixture(scope="module")
def cluster(ray_nodes):
    """Two nodes with two CPUs each; the driver joins by RAY_ADDRESS, as it would any running cluster."""
    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = ray_nodes.start_cluster()
    ray_nodes.add_node(made)
    old = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = made.address
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.pop("RAY_ADDRESS")
    if old is not None:
        os.environ["RAY_ADDRESS"] = old


@pytest.fixture
def runner(cluster):
    from data_engine.runners.ray_runner import RayRunner

    made = RayRunner(workers=2)
    yield made
    made.close()


def asks(count):
    key, text, image = (pl.format(words, "n") for words in ("k{}", "question {}", "i{}"))
    table = pl.lit(0, pl.Int32)
    return pl.DataFrame({"n": range(count)}).select(key=key, table=table, text=text, images=pl.concat_list(image))


def run(runner, server, wanted, pictures=None, *, batch_size=8, model="standin"):
    """Values of answers by key, or why there is none; and warnings."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        parts = Parts(store, "asks")
        write_asks(parts, 0, wanted)
        counts = [(name, pa.int64()) for name in ("tokens", "prompt_tokens")]
        values = pa.schema([("text", pa.string()), *counts, ("finish_reason", pa.string())])
        table = AnnotationTable(store, "asked", "c" * 64, values)
        keeper = Kept([table], dict)
        spec = EngineSpec(model=model, endpoint=server and server.url, batch_size=batch_size)
        there = StoredAsks(parts, [wanted.height], (("be kind", ""),))
        warnings = runner.ask(spec, there, keeper, images=pictures or Pictures(), sampling=GREEDY)
        keeper.flush()
        failed = {key.removesuffix("/0"): why for key, why in keeper.failed.items()}
        assert keeper.taken == wanted.height
        return {**table.fresh().lookup(wanted["key"].to_list()), **failed}, warnings


def test_a_cluster_that_runs_gives_the_cells_of_the_local_runner(runner, standin):
    local, _ = run(LocalRunner(), standin, asks(100), Pictures(gone=["i7"]))
    there, warnings = run(runner, standin, asks(100), Pictures(gone=["i7"]))
    assert there == local
    assert "disk error" in there["k7"]
    assert warnings == []


def test_asks_that_end_their_worker_are_isolated_and_the_others_answered(runner, standin):
    local, _ = run(LocalRunner(), standin, asks(60))
    there, warnings = run(runner, standin, asks(60), Pictures(deadly=["i30"]))
    assert there["k30"] == "it ended every worker it was given to"
    assert {key: cell for key, cell in there.items() if key != "k30"} == {k: c for k, c in local.items() if k != "k30"}
    assert any("asked again" in warning for warning in warnings)


def test_a_pool_whose_every_worker_was_ended_goes_on(cluster, standin):
    from data_engine.runners.ray_runner import RayRunner

    alone = RayRunner(workers=1)
    there, _ = run(alone, standin, asks(20), Pictures(deadly=["i1", "i9"]), batch_size=4)
    assert {key for key, found in there.items() if isinstance(found, str)} == {"k1", "k9"}
    assert len(there) == 20


def test_an_error_that_concerns_every_ask_is_raised_as_it_is(runner, tmp_path):
    with pytest.raises(InfiMmrError, match=r"does not exist.*hub id"):
        run(runner, None, asks(5), batch_size=1, model=str(tmp_path / "no" / "model"))


class Doubler:
    """An actor of a pool."""

    def node(self):
        import ray

        return ray.get_runtime_context().get_node_id()

    def answer(self, table, *, again):
        assert not again
        return double(table)


def test_a_pool_whose_workers_fit_on_no_node_says_so_and_goes_on_when_one_comes(
    cluster, ray_nodes, runner, monkeypatch
):
    from data_engine.runners import ray_pool

    monkeypatch.setattr(ray_pool, "LOOK", 0.5)
    told, added = [], []

    def hear(text):
        told.append(text)
        added.append(ray_nodes.add_node(cluster, num_cpus=3))

    actor = runner._connect().remote(Doubler).options(num_cpus=3)
    pool = ray_pool.Pool(actor.remote, 1, hear, needs={"CPU": 3})
    try:
        found = list(pool.answers(pa.table({"key": [f"k{n}"], "n": [n]}) for n in range(5)))
    finally:
        for node in added:
            cluster.remove_node(node, allow_graceful=False)
    assert sorted(n for table in found for n in table.column("n").to_pylist()) == [0, 2, 4, 6, 8]
    assert told == ["no node is large enough for a worker: it takes 3 CPU, single nodes have 2 CPU"]


def double(table, broadcast=1):
    return pa.table(
        {"key": table.column("key"), "n": pa.array([2 * broadcast * n for n in table.column("n").to_pylist()])}
    )


def test_functions_of_tables_give_the_same_there_and_here(runner):
    tables = [pa.table({"key": [f"k{n % 7}", f"k{n % 5}"], "n": [n, n * n]}) for n in range(20)]
    for broadcast in (None, 3):
        here = list(LocalRunner().map_batches(double, tables, broadcast=broadcast))
        there = list(runner.map_batches(double, tables, broadcast=broadcast))
        assert [t.to_pylist() for t in there] == [t.to_pylist() for t in here]


def refuse(message, step):
    """Stands for a step's file that cannot be loaded where it arrives."""
    raise InfiMmrError(message, step)


class Unreadable:
    """A value that no worker can read."""

    def __reduce__(self):
        return refuse, ("step odd cannot be loaded", "Install it there")


LOST = """
import os, signal, subprocess, sys, time
from pathlib import Path
import pyarrow as pa
from data_engine.runners.ray_runner import RayRunner

def work(table, place):
    if table["n"][0].as_py() == 0 and not place.exists():
        place.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        os.kill(os.getpid(), signal.SIGKILL)
    return table

runner = RayRunner()
print(len(list(runner.map_batches(work, [pa.table({"n": [n]}) for n in range(2)], broadcast=Path(sys.argv[1])))))
process = Path("/proc", Path(sys.argv[1]).read_text(), "stat")
while process.exists() and process.read_text().split()[2] != "Z":
    time.sleep(0.1)
runner.close()
"""


def test_what_a_worker_had_started_ends_with_it_and_nothing_is_said_on_stdout(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", LOST, str(tmp_path / "child")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_work_on_tables_that_fits_on_no_node_says_so_and_goes_on_when_one_comes(cluster, ray_nodes, monkeypatch):
    from data_engine.runners import ray_pool, ray_runner

    monkeypatch.setattr(ray_pool, "LOOK", 0.5)
    monkeypatch.setitem(ray_runner.TASK, "num_cpus", 3)
    told, added = [], []

    def hear(text):
        told.append(text)
        added.append(ray_nodes.add_node(cluster, num_cpus=3))

    runner = ray_runner.RayRunner(told=hear)
    tables = [pa.table({"key": [f"k{n}"], "n": [n]}) for n in range(3)]
    try:
        found = [table.column("n").to_pylist() for table in runner.map_batches(double, tables)]
    finally:
        for node in added:
            cluster.remove_node(node, allow_graceful=False)
    assert found == [[0], [2], [4]]
    assert told == ["no node is large enough for a worker: it takes 3 CPU, single nodes have 2 CPU"]


def test_what_a_worker_says_about_a_value_that_it_cannot_read_is_raised_as_it_is(runner):
    with pytest.raises(InfiMmrError, match=r"^step odd cannot be loaded\. Install it there$"):
        list(runner.map_batches(double, [pa.table({"key": ["k"], "n": [1]})] * 3, broadcast=Unreadable()))


def waiting(table, folder):
    """Fails for the first table, else works long and tells when it is stopped."""
    number = table.column("n")[0].as_py()
    if number == 0:
        while not list(folder.glob("running-*")):
            time.sleep(0.01)
        raise InfiMmrError("the first table cannot be worked on", "Look at it")
    try:
        (folder / f"running-{number}").touch()
        for _ in range(1200):
            time.sleep(0.1)
    except BaseException:
        (folder / f"stopped-{number}").touch()
        raise
    return table


def test_after_an_error_the_work_that_nobody_wants_any_more_is_stopped(runner, tmp_path):
    tables = [pa.table({"n": [number]}) for number in range(6)]
    with pytest.raises(InfiMmrError, match="the first table"):
        list(runner.map_batches(waiting, tables, broadcast=tmp_path))
    for _ in range(1000):  # 100 s, less than the work would take
        if {path.name[8:] for path in tmp_path.glob("running-*")} == {
            path.name[8:] for path in tmp_path.glob("stopped-*")
        }:
            return
        time.sleep(0.1)
    pytest.fail("work goes on that nobody wants")


def test_a_node_killed_in_the_middle_costs_only_what_it_had_not_finished(cluster, ray_nodes, runner, standin):
    victim = ray_nodes.add_node(cluster)
    wanted = asks(400)
    local, _ = run(LocalRunner(), standin, wanted)
    before = len(standin.requests)
    killed = threading.Event()

    def kill(number):
        if number == before + 120:
            threading.Thread(target=lambda: (cluster.remove_node(victim, allow_graceful=False), killed.set())).start()

    standin.on_request = kill
    from data_engine.runners.ray_runner import RayRunner

    three = RayRunner(workers=3)
    try:
        there, _ = run(three, standin, wanted, batch_size=4)
    finally:
        standin.on_request = None
    assert killed.wait(30)
    assert there == local
    assert len(standin.requests) - before < 400 + 100


class Drawn:
    """Pictures drawn from their own name, by whoever reads them."""

    def get(self, sha256):
        rng = np.random.default_rng(int(sha256, 16))
        out = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(out, "PNG")
        return out.getvalue()


def drawn_rows(count):
    """Texts of which some are copies of others, some with options, one in three with one of 400 pictures."""
    texts = _drawn.draw(count, words=40, copies=0.3).to_list()
    rows = [
        (f"r{n:05}", text, ["one", f"option {n % 7}"] if n % 5 == 0 else [], [] if n % 3 else [f"{n % 400:x}"])
        for n, text in enumerate(texts)
    ]
    return _world.frame(rows)


def embedded(store, rows, seed):
    """Put unit vectors of `rows` into the store, as if an engine had been asked."""
    from data_engine.decontamination.embed import STEP, content_key
    from shared.annotations import StoredCells
    from shared.fingerprint import fingerprint

    keys = [content_key(text, images) for text, images in rows.select("question", "image_hashes").iter_rows()]
    keys = list(dict.fromkeys(keys))
    vectors = np.random.default_rng(seed).standard_normal((len(keys), 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cells = StoredCells(store, STEP, fingerprint({"engine": engine_identity(POOLING)}))
    for start in range(0, len(keys), 500):
        part = slice(start, start + 500)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].ravel()), 32)
        cells.append_table(pa.table({"key": keys[part], "vector": column}))


def test_text_steps_find_the_same_there_and_here(runner, tmp_path):
    from data_engine.steps import decontaminate_embeddings, decontaminate_ngrams, dedup_minhash

    rows = drawn_rows(9_000)
    items = rows.sample(600, seed=1).with_columns(id="i" + pl.col("id"))
    benchmarks = [
        BenchmarkItems("one", "drawn/one", "1", items.head(400), Drawn()),
        BenchmarkItems("two", "drawn/two", "1", items.tail(200), Drawn()),
    ]
    found = []
    for one in (LocalRunner(), runner):
        store = open_store(tmp_path / one.name)
        embedded(store, rows, 1)
        embedded(store, items, 2)
        context = StepContext(store, "local", one, {}, Progress(), rows, Drawn(), benchmarks)
        found.append(
            [
                decontaminate_ngrams.run(context, decontaminate_ngrams.Settings(planted_duplicates=2)),
                dedup_minhash.run(context, dedup_minhash.Settings(planted_duplicates=2)),
                decontaminate_embeddings.run(
                    context, decontaminate_embeddings.Settings(engine=POOLING, planted_duplicates=0, evidence_from=0.5)
                ),
            ]
        )
    for here, there in zip(*found, strict=True):
        assert here.annotations.equals(there.annotations)
        assert here.annotations.height > 100
        assert (here.computed, here.reused, here.record) == (there.computed, there.reused, there.record)
    trees = [
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "local", tmp_path / "ray")
    ]
    assert trees[0] == trees[1]  # every stored cell too


@pytest.mark.parametrize("name", ["unnamed", "named_pictures", "tar", "csv", "saved", "parquet_pictures"])
def test_sources_are_read_in_pieces_there_as_they_are_here(runner, tmp_path, monkeypatch, name):
    (tmp_path / "set").mkdir()
    _pieces.FORMATS[name](tmp_path / "set")
    here = _pieces.ingested(_pieces.source_of(tmp_path / "set"), tmp_path / "here", LocalRunner())
    monkeypatch.setattr("data_engine.sources.file_pieces.MOST_BYTES", 1000)
    monkeypatch.setattr("data_engine.sources.file_pieces.PICTURED_ROWS", 16)
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 32)
    monkeypatch.setattr("data_engine.sources.table.MANY", 0)
    monkeypatch.setattr("data_engine.intake.in_blocks.FEW_BYTES", 0)
    source = _pieces.source_of(tmp_path / "set")
    hash_contents(source, runner, lambda: passing_scratch(open_store(tmp_path)))
    assert _pieces.ingested(source, tmp_path / "there", runner) == here


def test_a_file_that_a_worker_cannot_read_ends_the_build_with_its_name(runner, tmp_path, monkeypatch):
    monkeypatch.setattr("data_engine.intake.in_blocks.FEW_BYTES", 0)
    (tmp_path / "set").mkdir()
    _pieces.tar(tmp_path / "set")
    source = _pieces.source_of(tmp_path / "set")
    source.fingerprint()
    (tmp_path / "set" / "train-2.tar").unlink()
    with pytest.raises(InfiMmrError, match=r"source: train-2\.tar cannot be read"):
        _pieces.ingested(source, tmp_path / "there", runner)
