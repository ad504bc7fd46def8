"""The same work on a Ray cluster: a pool of actors, each holding one engine, answers batches of asks.

A cluster is joined where `RAY_ADDRESS` names one (or Ray already runs in this process), else one is started on this
machine and stopped at the end. Pictures are read by the actors. A step's asks lie on the build's scratch: each worker
is told places, reads its asks there, stores its answers in the annotation tables itself, and tells counts and failures.
So store and scratch must be within reach of all workers: a store URL, or a folder that all machines mount under one
path. A worker that cannot read its asks ends the build with an error that says so; nothing is carried for it.

Losses: an actor or node that dies takes with it only the batches it had not finished; those are asked again, the one
that it had in work ask by ask, and an ask that ends every worker becomes a failed cell (see `ray_pool`). Errors that
leave the worker alive are isolated inside it (see `work`). Functions of tables are tasks, which Ray itself repeats
elsewhere. With the node that the driver sits on, Ray ends the driver's process, mostly without a word of ours; the same
command goes on where it was (`benchmarks/kills.py`).

Not covered: starting machines (`cluster-2-nodes.yaml`), `ray.data.llm` (Ray 2.55's does not work with vLLM 0.29 on
pictures: it needs boto3, and `vllm.inputs` has no attribute `data`).
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from data_engine.runners import ray_pool
from data_engine.runners.local import LocalRunner
from data_engine.runners.protocol import Cell, Keeper, RunnerName, SharedAsks
from data_engine.runners.ray_pool import LOGS, Pool
from data_engine.runners.ray_worker import TOLD, AskWorker, mapped, taken
from shared.errors import InfiMmrError
from shared.vlm.checkpoint import at_commit
from shared.vlm.surroundings import log_path, quiet

if TYPE_CHECKING:
    import pyarrow as pa

    from shared.images import ImageSource
    from shared.progress import Task
    from shared.vlm.spec import EngineSpec, Sampling

FEW = 3
"""Batches that are asked in the driver's own process where no node has a GPU: starting a pool would take longer."""

SHARES = 32
"""Shares of shared asks for each worker, where there are enough of them, so that no worker is left with much more."""

MOST_ASKS = 2048
"""Asks of one share at most: a lost worker costs as many, less what it had stored."""

STARTS = 5
"""Times a Ray on this machine is started: on a busy laptop its node may miss Ray's own deadline of 30 s."""

LOCAL_OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a Ray that is started here: asks and cells are small, pictures never enter it."""

TASK: dict[str, Any] = {"num_cpus": 1, "max_retries": 5, "scheduling_strategy": "SPREAD"}
"""How Ray runs a function of tables: again, elsewhere, where its worker or node is lost."""

STOPS = 10
"""Times a task that goes on after an error is told to stop, a second apart."""

DEADLY = "it ended every worker it was given to"
"""Reason of an ask that failed so."""


class RayRunner:
    """Runs steps on Ray.

    Args:
        workers: Engines at once. None: as many as the GPUs hold; without GPUs one per node; one for an endpoint.
        told: Is told, in words, where no node is left on which work on tables could run.

    """

    name: RunnerName = "ray"

    def __init__(self, *, workers: int | None = None, told: Callable[[str], None] | None = None) -> None:
        self._workers = workers
        self._told = told
        self._started_here = False

    def ask(
        self,
        engine: EngineSpec,
        asks: SharedAsks,
        sink: Keeper,
        *,
        images: ImageSource,
        sampling: Sampling | None = None,
        task: Task | None = None,
    ) -> list[str]:
        """Answer every ask on the cluster; see `Runner.ask`."""
        if not len(asks):
            return []
        ray = self._connect()
        resources = ray.cluster_resources()
        if len(asks) <= FEW * engine.batch_size and not resources.get("GPU"):
            return LocalRunner().ask(engine, asks, sink, images=images, sampling=sampling, task=task)
        size = self._pool_size(engine, resources)
        share = _share(engine, asks, size)
        setup = {"spec": at_commit(engine), "images": images, "sampling": sampling, "asks": asks, "keeper": sink}
        given = ray.put(setup)
        options = _actor_options(engine, resources)
        needs = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0)}
        worker = ray.remote(AskWorker).options(**options)
        warnings: list[str] = []

        def advance(cells: int, tokens: int) -> None:
            if task is not None:
                task.waits("")
                task.advance(cells, tokens=tokens)
                task.note(warnings[-1] if warnings else "")

        if task is not None:
            task.waits(f"starting {engine.model.rsplit('/', 1)[-1]} on the cluster")
        seats = min(size, -(-len(asks) // share))
        tell = partial(_tell, warnings, task)
        pool = Pool(lambda: worker.remote([given]), seats, tell, piece=engine.batch_size, needs=needs)
        with closing(pool.answers(asks.places(share))) as answers:
            for table in answers:
                told = json.loads(taken(table).column(TOLD)[0].as_py())
                warnings += [told["note"]] if told["note"] else []
                sink.add(told)
                advance(told["cells"], told["tokens"])
        if pool.given_up:
            lost = [Cell(ask.key, None, DEADLY) for table in pool.given_up for ask in asks.read(table)]
            sink(lost)
            advance(len(lost), 0)
        return warnings

    def map_batches(
        self,
        function: Callable[..., pa.Table],
        tables: Iterable[pa.Table],
        *,
        broadcast: Any = None,
        task: Task | None = None,
    ) -> Iterator[pa.Table]:
        """Apply `function` to each table on the cluster, in order; see `Runner.map_batches`.

        A single table is worked on here: there is nothing to share out.
        """
        remaining = iter(tables)
        first = list(islice(remaining, 2))
        if len(first) < 2:
            yield from LocalRunner().map_batches(function, first, broadcast=broadcast, task=task)
            return
        ray = self._connect()
        # Named by what is done, in Ray's lists of tasks, the titles of its processes and its logs.
        there = ray.remote(mapped).options(**TASK, name=getattr(function, "__name__", mapped.__name__))
        given = ray.put(function), None if broadcast is None else ray.put(broadcast)
        width = 2 * max(2, int(ray.cluster_resources().get("CPU", 1)))  # one at work and one ready, for each core
        waiting: deque[tuple[Any, int]] = deque()
        try:
            for table in chain(first, remaining):
                waiting.append((there.remote(*given, table), table.num_rows))
                if len(waiting) > width:
                    yield self._result(*waiting.popleft(), task)
            while waiting:
                yield self._result(*waiting.popleft(), task)
        finally:
            _stop([reference for reference, _ in waiting])

    def close(self) -> None:
        """Stop the Ray that was started here; a cluster that was joined goes on."""
        if self._started_here:
            import ray

            ray.shutdown()
        self._started_here = False

    def _result(self, reference: Any, rows: int, task: Task | None) -> pa.Table:
        """What a task gave, once it is there; where no node can run it, that is told, once, and one is waited for."""
        import ray

        while not ray.wait([reference], timeout=ray_pool.LOOK)[0]:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            if self._told is not None and (lack := ray_pool.lacking({"CPU": TASK["num_cpus"]}, nodes)):
                self._told(lack)
                self._told = None
        return _result(reference, rows, task)

    def _connect(self) -> Any:
        # Started under `uv run`, Ray would send the working folder to every worker and build an environment there with
        # another `uv run`. Nodes have the project installed; Ray reads the variable when it is imported.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # stderr belongs to our progress
        # What a lost worker had started ends with it: an engine on several GPUs would keep their memory.
        os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
        import ray

        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            _start(address)
            self._started_here = not address
        return ray

    def _pool_size(self, engine: EngineSpec, resources: dict[str, float]) -> int:
        import ray

        if self._workers is not None:
            return self._workers
        if engine.endpoint is not None:
            return 1
        gpus = int(resources.get("GPU", 0))
        return max(1, gpus // engine.tensor_parallel_size) if gpus else sum(node["Alive"] for node in ray.nodes())


def _start(address: str | None) -> None:
    """Join the cluster at `address`, or start a Ray on this machine, quietly."""
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"include_dashboard": False, "object_store_memory": LOCAL_OBJECT_STORE_BYTES}
    for attempt in range(1, STARTS + 1):
        try:
            with quiet():
                ray.init(address=address or "local", **options)  # never some other Ray of this machine
            # A lost worker is told on stdout, whatever is asked of `ray.init`: there stands a command's JSON.
            ray._private.worker.print_to_stdstream = _to_log  # noqa: SLF001
        except Exception as error:  # Ray raises bare Exception where a node does not come up within its 30 s
            with quiet():
                ray.shutdown()
            if attempt < STARTS and not address:
                continue
            place = f"the Ray cluster at {address}" if address else "a Ray on this machine"
            message = f"cannot reach {place}: {error}"
            step = "Check RAY_ADDRESS, and that ray start ran there." if address else "Try again, or --runner local."
            raise InfiMmrError(message, step) from error
        else:
            return


def _to_log(told: dict[str, Any], ignore_prefix: bool) -> None:  # as Ray calls it
    del ignore_prefix
    with log_path().open("a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in told["lines"])


def _tell(warnings: list[str], task: Task | None, text: str) -> None:
    warnings.append(text)
    if task is not None:
        task.note(text)


def _share(engine: EngineSpec, asks: SharedAsks, workers: int) -> int:
    """How many asks one worker is given at once: whole batches, and many shares for each worker."""
    size = engine.batch_size
    return max(size, min(len(asks) // (SHARES * workers), MOST_ASKS) // size * size)


def _actor_options(engine: EngineSpec, resources: dict[str, float]) -> dict[str, Any]:
    """Resources of one actor. Ray gives an actor of one CPU one OpenMP thread, as the local runner has.

    Ray starts no actor again and repeats no call: the pool does, and so knows which ask ended a worker.
    """
    options = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD", "num_cpus": 1}
    if engine.endpoint is not None or resources.get("GPU", 0) < engine.tensor_parallel_size:
        return options
    # Pictures are decoded and resized on the host: half of a GPU's share of the cores goes to its actor.
    share = resources.get("CPU", 1) / resources["GPU"] * engine.tensor_parallel_size
    return options | {"num_gpus": engine.tensor_parallel_size, "num_cpus": max(1, min(8, int(share // 2)))}


def _stop(references: list[Any]) -> None:
    """Stop tasks after an error: nobody wants them, nor what they would write.

    A task that was on its way to its worker when it was told to stop may have missed that, and is told again.
    """
    import ray

    for _ in range(STOPS):
        if not references:
            return
        for reference in references:
            ray.cancel(reference)
        references = ray.wait(references, num_returns=len(references), timeout=1.0)[1]


def _result(reference: Any, rows: int, task: Task | None) -> pa.Table:
    """What a task gave; an error that it told is raised. `rows` it was given."""
    import ray

    try:
        table = taken(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        unread = getattr(error.cause, "client_exc", None)  # what reading the task's arguments raised
        if isinstance(unread, InfiMmrError):
            raise unread from error
        raise
    except ray.exceptions.LocalRayletDiedError as error:
        message = "the Ray node that this build sits on was lost"
        raise InfiMmrError(message, "Start it again, then use the same command: it goes on where it was") from error
    except ray.exceptions.RayError as error:
        message = f"a task was lost with its worker more than {TASK['max_retries']} times: {str(error).splitlines()[0]}"
        raise InfiMmrError(message, LOGS) from error
    if task is not None:
        task.advance(rows)
    return table
