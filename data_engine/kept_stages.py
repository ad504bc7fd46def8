"""What a build read and judged without a model, kept on the store, so that the next build of its source goes on there.

Most builds of a source differ in something that comes late: a threshold, a benchmark, a sharding. Reading the source
and hashing its texts is most of their work and gives the same blocks again. So the row blocks, and the findings of
steps that say what decides them (`READS`), are kept as the files that they are on scratch.

On the store: `stages/<key>/<file on scratch>`, and `stages/<key>/told.json` with the files' sha256, written last. A key
is the hash of all that decides a stage: the code that it can run (`stage_code`), the source's content and settings, for
a step also its settings, the benchmarks and the stages that it reads. An edit of a page or of the command line costs
nothing. A file that is gone or damaged is never believed: its stage is made anew.

Kept are rows in several blocks that name no image; small sources and images are read anew. `gc` removes what no
build used for `KEPT_SECONDS`. Not covered: cells (`annotations`), which serve other sources and recipes, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_engine.blocks import Parts, RowBlocks, over
from data_engine.stage_code import code_of
from data_engine.step_order import STEP_ORDER, step_module
from shared.fingerprint import bytes_hash, fingerprint
from shared.store import Entry, NotInStoreError, Store, StoreFullError

if TYPE_CHECKING:
    from data_engine.inputs import Inputs
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.intake.in_blocks import IngestedBlocks
    from data_engine.runners.protocol import Runner
    from data_engine.sources.base import Source
    from data_engine.step import StepResult
    from shared.progress import Progress

STAGES = "stages"
KEPT_SECONDS = 14 * 24 * 3600.0
"""How long a stage stays that no build used."""
_TOUCHED_SECONDS = 24 * 3600.0
_TOLD = "told.json"
_OPENING = ("data_engine.inputs", __name__)
"""Open a source; what they import beside it decides no row."""
_READING = ("data_engine.intake.in_blocks", "data_engine.sources.places", "data_engine.plugins")
"""Read a source, with the modules of its class."""
_JUDGING = "data_engine.step_blocks"
"""Runs a step's own module, which is imported by its name."""


@dataclass
class Stages:
    """The stages of one build.

    Attributes:
        inputs: What is built from.
        store: Where stages are kept.
        scratch: Where a build has its blocks and findings.
        runner: Its workers copy and check the files.
        progress: Is told what was there already.
        keys: Of the stages so far; empty where the rows are not kept.
        keeps: Whether what is made is kept; a plan only finds.

    """

    inputs: Inputs
    store: Store
    scratch: Store
    runner: Runner
    progress: Progress
    keys: dict[str, str] = field(default_factory=dict)
    keeps: bool = True

    def rows(
        self, read: Callable[[], IngestedBlocks], limit: int, *, conflicts: bool, images: Callable[[], int]
    ) -> IngestedBlocks:
        """The source's rows: kept ones, or those that `read` gives."""
        from data_engine.intake.in_blocks import IngestedBlocks

        source = self.inputs.source
        # Reading what code a stage runs takes a second: small sources, of which nothing is kept, do without.
        key = self._source_key(limit, conflicts=conflicts) if self.store.folders(STAGES) else ""
        kept = self._find(key) if key else None
        if kept is not None:
            self.keys["rows"] = key
            if hasattr(source, "read"):
                source.read.update(kept["read"])
            self.progress.task(f"source {source.name}", kept["records"], unit="records", known=kept["records"]).done()
            names = ("rejected", "records", "inspected", "remembered", "warnings", "mends")
            rows = RowBlocks(self.scratch, "rows", tuple(kept["heights"]))
            return IngestedBlocks(rows, Parts(self.scratch, "rejected"), **{name: kept[name] for name in names})
        found = read()
        if self.keeps and len(found.rows.heights) > 1 and not images():
            told = {name: getattr(found, name) for name in ("rejected", "records", "warnings", "mends")}
            told |= {"heights": found.rows.heights, "inspected": 0, "remembered": 0}
            told["read"] = dict(getattr(source, "read", {}))
            key = key or self._source_key(limit, conflicts=conflicts)
            if self._keep(key, [found.rows, found.rejections], found.rows.numbers, told):
                self.keys["rows"] = key
        return found

    def step(self, name: str, blocks: RowBlocks, run: Callable[[], StepResult]) -> StepResult:
        """What a step found: kept, or what `run` gives."""
        import polars as pl

        from data_engine.step import StepResult

        reads = _reads(name)
        if reads is None or "rows" not in self.keys:
            return run()
        key = self.keys[name] = self._step_key(name, reads)
        kept = self._find(key)
        if kept is not None:
            self.progress.task(name, blocks.height, known=blocks.height).done()
            parts = Parts(self.scratch, kept.pop("folder"))
            return StepResult(pl.DataFrame(), parts=parts, **{name: kept[name] for name in _RESULT})
        found = run()
        told = {name: getattr(found, name) for name in _RESULT}
        told |= {"computed": 0, "reused": found.computed + found.reused, "folder": found.by_block.folder}
        self._keep(key, [found.by_block], blocks.numbers, told)
        return found

    def holds(self, name: str) -> bool:
        """Whether what a step would find about the rows is kept."""
        reads = _reads(name)
        if reads is None or "rows" not in self.keys:
            return False
        self.keys[name] = self._step_key(name, reads)
        return self.store.exists(f"{STAGES}/{self.keys[name]}/{_TOLD}")

    def _source_key(self, limit: int, *, conflicts: bool) -> str:
        import pyarrow as pa

        from data_engine.sources.merged import parts_of

        source = self.inputs.source
        identity = self.inputs.identity()
        return fingerprint({
            "code": _reading(source, *parts_of(source).values()),
            "writer": pa.__version__,
            "source": [identity.get("source"), identity.get("sources")],
            "content": source.fingerprint(),
            "limit": limit,
            "conflicts": conflicts,
        })  # fmt: skip

    def _step_key(self, name: str, reads: Sequence[str]) -> str:
        identity = self.inputs.identity()
        benchmarks = {one: source.fingerprint() for one, source in self.inputs.benchmarks.items()}
        told = [identity["benchmarks"], benchmarks, _reading(*self.inputs.benchmarks.values())]
        decided = {"benchmarks": fingerprint(told), **self.keys}
        read = {one: decided.get(one) for one in ("rows", *reads)}
        code = code_of((_JUDGING, f"data_engine.steps.{name}"), apart=("data_engine.steps",), alone=(__name__,))
        return fingerprint({"step": name, "settings": identity["steps"][name], "reads": read, "code": code})

    def _find(self, key: str) -> dict[str, Any] | None:
        """Bring a stage's files to scratch; what was told about it, or None where it is not there as a whole."""
        path = f"{STAGES}/{key}/{_TOLD}"
        entry = self.store.head(path)
        if entry is None:
            return None
        try:
            data = self.store.get(path)
            kept: dict[str, Any] = json.loads(data)
            places = [f"{STAGES}/{key}/{file}" for file in kept["files"]]
            job = _Copies(self.store, places, self.scratch, kept["files"], kept["sha256"])
        except (NotInStoreError, ValueError, KeyError, TypeError):
            return None
        if not all(one["sha256"] for one in self._copied(job)):
            self.store.delete(path)
            return None
        if entry.modified < time.time() - _TOUCHED_SECONDS:
            self.store.put(path, data)
        return kept

    def _keep(self, key: str, parts: Sequence[Parts], numbers: range, told: Mapping[str, Any]) -> bool:
        """Keep a stage; a store that is full keeps none."""
        place = f"{STAGES}/{key}"
        files = [one.path(number) for one in parts for number in numbers]
        try:
            found = self._copied(_Copies(self.scratch, files, self.store, [f"{place}/{file}" for file in files]))
            hashes = [one["sha256"] for one in found]
            self.store.put(f"{place}/{_TOLD}", json.dumps({**told, "files": files, "sha256": hashes}).encode())
        except StoreFullError:
            for entry in list(self.store.list(place)):
                self.store.delete(entry.path)
            return False
        return True

    def _copied(self, job: _Copies) -> list[dict[str, Any]]:
        return list(over(self.runner, _copy, range(len(job.files)), job, away=True))


def _reads(name: str) -> Sequence[str] | None:
    """What decides a step's findings beside rows and settings; None where they are not kept, as none of others are."""
    return getattr(step_module(name), "READS", None) if name in STEP_ORDER else None


def _reading(*sources: Source) -> str:
    """Hash of the code that opens and reads sources."""
    readers = sorted({type(source).__module__ for source in sources})
    return code_of((*_READING, *readers), alone=_OPENING)


def read_source(stages: Stages, images: ImagePlaces, *, limit: int, conflicts: bool) -> IngestedBlocks:
    """Rows of a source for a build or a plan: those that an earlier build kept, or `ingest_blocks`."""
    from data_engine.expected_time import records_of
    from data_engine.intake.in_blocks import ingest_blocks

    source = stages.inputs.source

    def read() -> IngestedBlocks:
        known = source.count()
        total = limit or known if known is None else min(known, limit or known)
        about = records_of(source, limit) or 0
        task = stages.progress.task(f"source {source.name}", total, unit="records", about=about)
        found = ingest_blocks(
            source,
            images,
            stages.store,
            stages.scratch,
            stages.runner,
            limit=limit,
            check_conflicts=conflicts,
            expected=None if known is None else total,
            task=task,
        )
        task.done()
        return found

    return stages.rows(read, limit, conflicts=conflicts, images=lambda: len(images))


_RESULT = ("computed", "reused", "warnings", "record", "one_per_row")


@dataclass(frozen=True)
class _Copies:
    """Files that go from one store to another; `sha256` where it is known what they must be."""

    source: Store
    files: Sequence[str]
    target: Store
    places: Sequence[str]
    sha256: Sequence[str] = ()


def _copy(number: int, job: _Copies) -> dict[str, Any]:
    """Copy a file; no hash where it is not there or not what it must be."""
    try:
        data = job.source.get(job.files[number])
    except NotInStoreError:
        return {"sha256": ""}
    found = bytes_hash(data)
    if job.sha256 and found != job.sha256[number]:
        return {"sha256": ""}
    job.target.put(job.places[number], data, durable=False)
    return {"sha256": found}


def unused_stages(store: Store) -> Iterator[Entry]:
    """Files of stages that no build used or wrote for `KEPT_SECONDS`."""
    by_stage: dict[str, list[Entry]] = {}
    for entry in store.list(STAGES):
        by_stage.setdefault(entry.path.split("/")[1], []).append(entry)
    for entries in by_stage.values():
        if max(entry.modified for entry in entries) < time.time() - KEPT_SECONDS:
            yield from entries
