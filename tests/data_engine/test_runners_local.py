"""The local runner and the worker that every runner shares: isolation, retries, smaller batches."""

from __future__ import annotations

import pyarrow as pa
import pytest

from data_engine.runners import Ask, Cell, open_runner
from data_engine.runners.local import LocalRunner
from data_engine.runners.work import ATTEMPTS, Worker
from shared.errors import InfiMmrError
from shared.vlm import Answer, EngineSpec, Sampling, room
from shared.vlm.failures import AskRefusedError, EngineDiedError, EngineOutOfMemoryError

SPEC = EngineSpec(model="org/stand-in", revision="1", batch_size=8)
GREEDY = Sampling(max_tokens=4)


class Scripted:
    """An engine that answers by rule and fails as the test says; it pretends no model."""

    def __init__(self, spec, trouble=None):
        self.spec = spec
        self.trouble = trouble or (lambda texts: None)
        self.calls = []
        self.closed = False

    def chat(self, conversations, sampling):
        texts = [conversation[-1]["content"][-1]["text"] for conversation in conversations]
        self.calls.append(texts)
        self.trouble(texts)
        return [Answer.refusal("too long") if "long" in text else Answer(text.upper(), 1, 2, "stop") for text in texts]

    def embed(self, pairs):
        texts = [text for _, text in pairs]
        self.calls.append(texts)
        self.trouble(texts)
        import numpy as np

        return np.ones((len(pairs), 4), np.float32)

    def close(self):
        self.closed = True


class Pictures:
    def get(self, sha256):
        if sha256 == "gone":
            raise OSError("disk error")
        return b"\x89PNG" + sha256.encode()


@pytest.fixture
def engines(monkeypatch):
    """Let the room start scripted engines; gives the list of started ones and the trouble they make."""
    started = []
    state = {"trouble": None}

    def start(spec):
        started.append(Scripted(spec, state["trouble"]))
        return started[-1]

    monkeypatch.setattr(room, "_new", start)
    monkeypatch.setattr(room, "_engines", {})
    return started, state


def run(asks, spec=SPEC, sampling=GREEDY):
    cells: dict[str, Cell] = {}

    def sink(found):
        for cell in found:
            assert cell.key not in cells
            cells[cell.key] = cell

    warnings = LocalRunner().ask(spec, asks, sink, images=Pictures(), sampling=sampling)
    return cells, warnings


def asks(count, **special):
    return [Ask(f"k{n}", special.get(f"k{n}", f"text {n}")) for n in range(count)]


def test_every_ask_is_answered_once_in_batches_of_the_asked_size(engines):
    cells, warnings = run(asks(20))
    assert [cells[f"k{n}"].value["text"] for n in range(20)] == [f"TEXT {n}" for n in range(20)]
    assert [len(call) for call in engines[0][0].calls] == [8, 8, 4]
    assert warnings == []


def test_no_asks_start_no_engine(engines):
    run([])
    assert engines[0] == []


def test_one_engine_serves_every_step_that_names_it(engines):
    run(asks(3))
    run(asks(3), SPEC.model_copy(update={"batch_size": 2, "max_pixels": 1000}))
    assert len(engines[0]) == 1
    run(asks(3), SPEC.model_copy(update={"revision": "2"}))
    assert len(engines[0]) == 2
    assert engines[0][0].closed


def test_a_picture_that_cannot_be_read_fails_its_row_alone(engines):
    rows = [*asks(5), Ask("lost", "text", images=("gone",))]
    cells, _ = run(rows)
    assert cells["lost"].value is None
    assert "disk error" in cells["lost"].failed
    assert sum(cell.value is not None for cell in cells.values()) == 5


def test_a_refused_ask_is_a_failed_cell_with_the_reason(engines):
    cells, _ = run(asks(4, k2="a long one"))
    assert cells["k2"].failed == "too long"
    assert cells["k3"].value is not None


def test_a_poisoned_row_is_isolated_after_bounded_tries(engines):
    tried = []

    def trouble(texts):
        if "poison" in texts:
            tried.append(len(texts))
            raise RuntimeError("cannot be computed")

    engines[1]["trouble"] = trouble
    cells, _ = run(asks(16, k5="poison"))
    assert cells["k5"].failed == f"{ATTEMPTS} attempts: RuntimeError: cannot be computed"
    assert sum(cell.value is not None for cell in cells.values()) == 15
    assert tried == [8, 4, 2] + [1] * ATTEMPTS


def test_a_pair_that_cannot_be_embedded_leaves_the_others(engines):
    def trouble(texts):
        if "poison" in texts:
            raise AskRefusedError("image refused")

    engines[1]["trouble"] = trouble
    cells, _ = run(asks(8, k5="poison"), sampling=None)
    assert cells["k5"].failed == "image refused"
    assert cells["k4"].value["vector"].shape == (4,)


def test_out_of_memory_restarts_the_engine_with_half_the_batch_and_says_so(engines):
    def trouble(texts):
        if len(texts) > 2:
            raise EngineOutOfMemoryError(f"out of memory with {len(texts)} asks")

    engines[1]["trouble"] = trouble
    cells, warnings = run(asks(16))
    assert all(cell.value is not None for cell in cells.values())
    assert [engine.spec.batch_size for engine in engines[0]] == [8, 4, 2]
    assert warnings == [
        "out of memory with 8 asks; started again with batch_size 4",
        "out of memory with 4 asks; started again with batch_size 2",
    ]
    assert all(engine.closed for engine in engines[0][:-1])


def test_an_engine_that_died_is_started_again(engines):
    deaths = iter([True])

    def trouble(texts):
        if next(deaths, False):
            raise EngineDiedError("the engine died")

    engines[1]["trouble"] = trouble
    cells, warnings = run(asks(8))
    assert all(cell.value is not None for cell in cells.values())
    assert warnings[0].startswith("the engine died")


def test_an_engine_that_dies_on_one_ask_fails_that_ask_and_no_other(engines):
    def trouble(texts):
        if "poison" in texts:
            raise EngineDiedError("the engine died")

    engines[1]["trouble"] = trouble
    cells, _ = run(asks(2, k1="poison"))
    assert "the engine died" in cells["k1"].failed
    assert cells["k0"].value is not None


def test_an_engine_that_always_dies_ends_the_build_with_one_clear_line(engines):
    def trouble(texts):
        raise EngineDiedError("the engine died")

    engines[1]["trouble"] = trouble
    with pytest.raises(InfiMmrError, match=r"failed \d+ times: the engine died"):
        run(asks(64))


def test_a_failing_sink_is_not_swallowed(engines):
    def sink(cells):
        raise InfiMmrError("no space left")

    with pytest.raises(InfiMmrError, match="no space left"):
        LocalRunner().ask(SPEC, asks(3), sink, images=Pictures(), sampling=GREEDY)


def test_the_next_batch_is_read_while_the_engine_works(engines):
    worker = Worker(SPEC, Pictures(), GREEDY)
    reading = worker.read([Ask("a", "t", images=("x", "y")), Ask("b", "t", images=("x",))])
    assert sorted(reading) == ["x", "y"]
    worker.close()


def double(table):
    return table.set_column(0, "n", pa.array([2 * n for n in table.column("n").to_pylist()]))


def added(table, number):
    return table.set_column(0, "n", pa.array([n + number for n in table.column("n").to_pylist()]))


def test_map_batches_keeps_the_order_and_hands_the_broadcast_on():
    runner = open_runner("local")
    tables = [pa.table({"n": [1, 2]}), pa.table({"n": [3]})]
    assert [t.column("n").to_pylist() for t in runner.map_batches(double, tables)] == [[2, 4], [6]]
    assert [t.column("n").to_pylist() for t in runner.map_batches(added, tables, broadcast=10)] == [[11, 12], [13]]
