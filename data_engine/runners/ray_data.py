"""The same work on a Ray cluster: Ray Data maps batches of asks over a pool of actors, each holding one engine.

A cluster is joined where `RAY_ADDRESS` names one (or Ray already runs in this process), else one is started on this
machine and stopped at the end. Pictures are read by the actors; asks go out and small cells come back, and the driver
hands them to the step's sink as they come.

Losses: an actor or node that dies takes with it only the batches it had not finished. Ray Data drops those
(`max_errored_blocks`), and further rounds ask what is still missing, ask by ask. The last few get a worker of their own
each; an ask that ends this one too becomes a failed cell. Errors that leave the worker alive
are isolated inside it (see `work`).

Not covered: starting machines (`cluster-2-nodes.yaml`), `ray.data.llm` (Ray 2.55's does not work with vLLM 0.29 on
pictures: it needs boto3, and `vllm.inputs` has no attribute `data`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from data_engine.runners.local import LocalRunner
from data_engine.runners.protocol import Ask, Cell, answer_tokens
from data_engine.runners.ray_cells import ask_tables, asks_of, cells_of, raise_told
from data_engine.runners.ray_worker import AskWorker, Mapped
from shared.errors import InfiMmrError
from shared.vlm.checkpoint import at_commit
from shared.vlm.surroundings import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from data_engine.runners.protocol import RunnerName
    from shared.images import ImageSource
    from shared.progress import Task
    from shared.vlm.spec import EngineSpec, Sampling

ALONE = 8
"""Asks that may be given a worker of their own at the end, each."""

ROUNDS = 6
"""Passes over what is left: the first in batches, the others ask by ask. More losses mean that the cluster is ill."""

FEW = 3
"""Batches that are asked in the driver's own process where no node has a GPU: starting a pool would take longer."""

STARTS = 5
"""Times a Ray on this machine is started: on a busy laptop its node may miss Ray's own deadline of 30 s."""

LOCAL_OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a Ray that is started here: asks and cells are small, pictures never enter it."""

PARTITIONS = 8
"""Parts of `map_groups` unless told otherwise."""

FEW_ROWS = 2**14
"""Rows that `map_groups` does not send round a cluster: a shuffle takes seconds to start."""


DEADLY = "it ended every worker it was given to"
"""Reason of an ask that failed so."""


@dataclass(frozen=True)
class _Batch:
    """A table of asks that lies in Ray's shared memory, so that the driver holds none of them.

    Attributes:
        reference: Where it lies.
        keys: How many asks it has.
        first: Key of the first: answers come as whole tables, in the order of the asks, and so tell which they answer.

    """

    reference: Any
    keys: int
    first: str

    @classmethod
    def put(cls, table: pa.Table) -> _Batch:
        """Share a table."""
        import ray

        return cls(ray.put(table), table.num_rows, table.column("key")[0].as_py())

    def singly(self) -> list[_Batch]:
        """Each ask as a batch of its own."""
        import ray

        if self.keys == 1:
            return [self]
        table = ray.get(self.reference)
        return [self.put(table.slice(row, 1)) for row in range(self.keys)]


@dataclass
class _Asking:
    """One `ask` in progress.

    Attributes:
        engine: Who is asked.
        setup: Reference to what the actors are made of.
        sink: Takes finished cells.
        task: The bar; None for none.
        warnings: Restarts and losses so far.

    """

    engine: EngineSpec
    setup: Any
    sink: Callable[[list[Cell]], None]
    task: Task | None
    warnings: list[str] = field(default_factory=list)

    def finish(self, cells: list[Cell]) -> None:
        """Hand finished cells on and move the bar."""
        if cells:
            self.sink(cells)
        if self.task is not None:
            self.task.waits("")
            self.task.advance(len(cells), tokens=answer_tokens(cells))
            self.task.note(self.warnings[-1] if self.warnings else "")


class RayRunner:
    """Runs steps on Ray.

    Args:
        workers: Engines at once. None: as many as the GPUs hold; without GPUs one per node; one for an endpoint.

    """

    name: RunnerName = "ray"

    def __init__(self, *, workers: int | None = None) -> None:
        self._workers = workers
        self._started_here = False

    def ask(
        self,
        engine: EngineSpec,
        asks: Iterable[Ask],
        sink: Callable[[list[Cell]], None],
        *,
        images: ImageSource,
        sampling: Sampling | None = None,
        task: Task | None = None,
    ) -> list[str]:
        """Answer every ask on the cluster; see `Runner.ask`."""
        tables = ask_tables(asks, engine.batch_size)
        some = list(islice(tables, FEW + 1))
        if not some:
            return []
        ray = self._connect()
        if len(some) <= FEW and not ray.cluster_resources().get("GPU"):
            few = [ask for table in some for ask in asks_of(table)]
            return LocalRunner().ask(engine, few, sink, images=images, sampling=sampling, task=task)
        waiting = [_Batch.put(table) for table in chain(some, tables)]
        setup = ray.put({"spec": at_commit(engine), "images": images, "sampling": sampling})
        asking = _Asking(engine, setup, sink, task)
        if task is not None:
            task.waits(f"starting {engine.model.rsplit('/', 1)[-1]} on the cluster")
        for number in range(1, ROUNDS + 1):
            done, whole = self._round(asking, waiting)
            waiting = [batch for batch in waiting if batch.first not in done]
            if whole:
                waiting = [one for batch in waiting for one in batch.singly()]
            if not waiting or (whole and number > 1 and len(waiting) <= ALONE):
                break
            asking.warnings.append(f"{sum(batch.keys for batch in waiting)} asks were lost and are asked again")
        else:
            message = f"{len(waiting)} batches of asks were lost with their workers {ROUNDS} times"
            raise InfiMmrError(message, "Look at the workers' logs (ray logs); finished answers are kept.")
        lost = [batch for batch in waiting if not self._round(asking, [batch])[0]]
        asking.finish([Cell(batch.first, None, DEADLY) for batch in lost])
        return asking.warnings

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
        mapped = Mapped(function, None if broadcast is None else [ray.put(broadcast)])
        data = _dataset([ray.put(table) for table in chain(first, remaining)], keep_order=True)
        yield from _tables(data.map_batches(mapped, batch_size=None, batch_format="pyarrow"), task)

    def map_groups(
        self,
        function: Callable[[pa.Table], pa.Table],
        tables: Iterable[pa.Table],
        *,
        by: str,
        partitions: int | None = None,
        task: Task | None = None,
    ) -> Iterator[pa.Table]:
        """Shuffle rows by a hash of `by` and apply `function` to each partition; see `Runner.map_groups`."""
        remaining = iter(tables)
        first: list[pa.Table] = []
        while sum(table.num_rows for table in first) <= FEW_ROWS:
            following = next(remaining, None)
            if following is None:
                yield from LocalRunner().map_groups(function, first, by=by, partitions=partitions, task=task)
                return
            first.append(following)
        ray = self._connect()
        data = _dataset([ray.put(table) for table in chain(first, remaining)])
        data = data.repartition(partitions or PARTITIONS, keys=[by])
        yield from _tables(data.map_batches(Mapped(function, None), batch_size=None, batch_format="pyarrow"), task)

    def close(self) -> None:
        """Stop the Ray that was started here; a cluster that was joined goes on."""
        import ray

        if self._started_here and ray.is_initialized():
            ray.shutdown()
        self._started_here = False

    def _connect(self) -> Any:
        # Started under `uv run`, Ray would send the working folder to every worker and build an environment there with
        # another `uv run`. Nodes have the project installed; Ray reads the variable when it is imported.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        # Ray Data's own actors make Ray's core print an error about their arguments; stderr belongs to our progress.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            _start(address)
            self._started_here = not address
        return ray

    def _round(self, asking: _Asking, waiting: list[_Batch]) -> tuple[set[str], bool]:
        """One pass over `waiting`: first keys of the batches answered, and whether the pass went through to its end.

        Batches whose worker or node died are missing from the keys.
        """
        import ray

        data = _dataset([batch.reference for batch in waiting], losses=True)
        resources = ray.cluster_resources()
        size = min(self._pool_size(asking.engine, resources), len(waiting))
        # One batch in work and one ready, so that an actor never waits for the driver.
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=2)
        answered = data.map_batches(
            AskWorker,
            fn_constructor_args=([asking.setup],),
            compute=pool,
            batch_size=None,
            batch_format="pyarrow",
            **_actor_options(asking.engine, resources),
        )
        done: set[str] = set()
        try:
            for table in _tables(answered, None):
                cells, notes = cells_of(table)
                asking.warnings.extend(notes)
                done.add(cells[0].key)
                asking.finish(cells)
        except ray.exceptions.RayError as error:  # an answer lay on a lost node: the next round asks what is missing
            asking.warnings.append(f"a part of the cluster was lost ({type(error).__name__})")
            return done, False
        return done, True

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


def _actor_options(engine: EngineSpec, resources: dict[str, float]) -> dict[str, Any]:
    """Resources of one actor. Ray gives an actor of one CPU one OpenMP thread, as the local runner has.

    A dead actor is started again, on another node where its own is lost (else Ray Data would wait for ever once all of
    a pool are dead). Its tasks are not tried again by Ray: the runner's rounds bound the attempts, so that an ask which
    ends its worker cannot loop.
    """
    on_gpu = engine.endpoint is None and resources.get("GPU", 0) >= engine.tensor_parallel_size
    options: dict[str, Any] = {
        "max_restarts": -1,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
        "num_cpus": 1,
    }
    if on_gpu:
        # Pictures are decoded and resized on the host: half of a GPU's share of the cores goes to its actor.
        share = resources.get("CPU", 1) / resources["GPU"] * engine.tensor_parallel_size
        return options | {"num_gpus": engine.tensor_parallel_size, "num_cpus": max(1, min(8, int(share // 2)))}
    return options


def _dataset(references: list[Any], *, keep_order: bool = False, losses: bool = False) -> Any:
    """A Ray Dataset of one block per referenced table, quiet, with lost blocks dropped where `losses`."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = keep_order
    context.max_errored_blocks = -1 if losses else 0
    data = ray.data.from_arrow_refs(references)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)  # Ray's own log files keep everything; stderr belongs to our progress
    return data


def _tables(data: Any, task: Task | None) -> Iterator[pa.Table]:
    """Blocks of a Dataset as they come; an error that a worker told is raised."""
    for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        raise_told(table)
        if table.num_rows:
            yield table
            if task is not None:
                task.advance(table.num_rows)
