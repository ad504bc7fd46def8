"""Asking a model about images, cell by cell: what is known is found, what is missing is asked and stored at once.

Input: groups of images that share one prompt. Output: one frame with a row per image and group that has an answer,
failures, and how many cells were computed and reused. Each group is its own annotation context, so that one changed
prompt re-asks its own group only. The same image may stand in several groups (its caption in two languages).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from data_engine.intake.staging import within_reach
from data_engine.runners import Ask, Cell
from shared.annotations import AnnotationTable
from shared.fingerprint import fingerprint
from shared.vlm.checkpoint import maker
from shared.vlm.identity import engine_identity, engine_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars as pl
    import pyarrow as pa

    from data_engine.step import StepContext
    from shared.prompts import Prompt
    from shared.vlm.spec import EngineSpec, Sampling


@dataclass(frozen=True)
class Group:
    """Images asked with the same words.

    Attributes:
        prompt: The prompt file.
        alone: Which turn a file of one text is: `system` (the user then shows the picture only) or `user`.
        images: sha256 of the images, in the order in which they are asked.

    """

    prompt: Prompt
    alone: Literal["system", "user"]
    images: Sequence[str]

    @property
    def form(self) -> str:
        """Turns that the prompt fills: `system`, `user` or `both`."""
        system, user = self.prompt.turns(self.alone)
        return "both" if system and user else "system" if system else "user"

    def ask(self, sha256: str, key: str = "") -> Ask:
        """Ask about one image: the picture, then the user's words."""
        system, user = self.prompt.turns(self.alone)
        return Ask(key or sha256, f"<image>{user}", system, (sha256,))


@dataclass(frozen=True)
class Asked:
    """What asking gave.

    Attributes:
        cells: `image_hash`, `group` (position among the groups) and the step's value columns, sorted by both.
        failures: (`image_hash`, `reason`), or None.
        computed: Cells asked now.
        reused: Cells found.
        warnings: Restarts, lost workers, failed images, cells that other code made.
        made_elsewhere: Cells found that something else than this code and library made: maker -> cells.

    """

    cells: pl.DataFrame
    failures: pl.DataFrame | None
    computed: int
    reused: int
    warnings: list[str]
    made_elsewhere: dict[str, int] = field(default_factory=dict)


def ask_about_images(
    context: StepContext,
    step: str,
    *,
    engine: EngineSpec,
    sampling: Sampling,
    groups: Sequence[Group],
    values: pa.Schema,
    to_value: Callable[[dict[str, Any]], dict[str, Any]],
) -> Asked:
    """Get every image of every group answered; no engine starts when all cells are known.

    Args:
        context: The build.
        step: Name of the annotation tables.
        engine: Who is asked.
        sampling: How.
        groups: What; an image stands once in a group.
        values: Value columns of the step's annotation table.
        to_value: A chat answer (`text`, `tokens`, `prompt_tokens`, `finish_reason`) as those columns.

    """
    import polars as pl

    identity = engine_identity(engine)
    tables = [
        _table(context, step, engine=engine, identity=identity, sampling=sampling, group=group, values=values)
        for group in groups
    ]
    missing = [table.missing(group.images) for table, group in zip(tables, groups, strict=True)]
    elsewhere = counted(table.made_elsewhere(group.images) for table, group in zip(tables, groups, strict=True))
    places = _places(missing)
    for table in (table for table, hashes in zip(tables, missing, strict=True) if hashes):
        table.refresh()  # what is appended stays on the store until all is answered
    failed: list[tuple[str, str]] = []

    def sink(cells: list[Cell]) -> None:
        rows: dict[int, list[dict[str, Any]]] = {}
        for cell in cells:
            if cell.value is None:
                failed.append((places[cell.key][1], cell.failed))
            else:
                index, sha256 = places[cell.key]
                rows.setdefault(index, []).append({"key": sha256, **to_value(cell.value)})
        for index, found in rows.items():
            tables[index].append(found)

    def asks() -> Iterator[Ask]:
        """Made as they are asked, so that they are never all in memory."""
        return (groups[number].ask(sha256, key) for key, (number, sha256) in places.items())

    count = len(places)
    known = sum(len(set(group.images)) for group in groups) - count
    warnings: list[str] = []
    if count:
        images = within_reach(context, context.images, asks())
        task = context.progress.task(step, count, unit="images", known=known)
        warnings = context.runner.ask(engine, asks(), sink, images=images, sampling=sampling, task=task)
        task.done()
    places.clear()
    missing.clear()
    if failed:
        warnings = [*warnings, f"{step}: {len(failed)} images failed, first: {failed[0][1]}"]
    warnings += told_elsewhere(step, elsewhere)
    return Asked(
        cells=_answered(tables, groups, values),
        failures=pl.DataFrame(sorted(failed), schema=["image_hash", "reason"], orient="row") if failed else None,
        computed=count - len(failed),
        reused=known,
        warnings=warnings,
        made_elsewhere=elsewhere,
    )


def counted(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of counts by key."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def told_elsewhere(step: str, elsewhere: Mapping[str, int]) -> list[str]:
    """A sentence about cells that other code or another version of the library made; none where there are none."""
    if not elsewhere:
        return []
    makers = ", ".join(f"{count} by {maker or 'code that does not say'}" for maker, count in elsewhere.items())
    return [f"{step}: {sum(elsewhere.values())} cells found were made otherwise ({makers}); their keys are the same"]


def _places(missing: Sequence[Sequence[str]]) -> dict[str, tuple[int, str]]:
    """(Group, image) of each ask by its key; an image's further groups are told apart by their number."""
    places: dict[str, tuple[int, str]] = {}
    for number, hashes in enumerate(missing):
        for sha256 in hashes:
            places[f"{sha256}/{number}" if sha256 in places else sha256] = (number, sha256)
    return places


def _answered(tables: Sequence[AnnotationTable], groups: Sequence[Group], values: pa.Schema) -> pl.DataFrame:
    """`image_hash`, `group` and the value columns of every image that has an answer."""
    import polars as pl

    cells = pl.DataFrame(pl.from_arrow(values.empty_table())).insert_column(0, pl.Series("key", [], dtype=pl.String))
    cells = cells.with_columns(group=pl.lit(0, pl.Int64))
    for number, (table, group) in enumerate(zip(tables, groups, strict=True)):
        known = table.rows(group.images)
        table.refresh()  # the frame has it now: one copy is enough
        if known is not None:
            cells = cells.vstack(pl.DataFrame(pl.from_arrow(known)).with_columns(group=pl.lit(number, pl.Int64)))
    return cells.rename({"key": "image_hash"}).sort("image_hash", "group")


def _table(
    context: StepContext,
    step: str,
    *,
    engine: EngineSpec,
    identity: dict[str, Any],
    sampling: Sampling,
    group: Group,
    values: pa.Schema,
) -> AnnotationTable:
    asked = {
        "engine": identity,
        "prompt_sha256": group.prompt.sha256,
        "form": group.form,
        "sampling": sampling,
    }
    about = {
        "step": step,
        "engine": engine_record(engine),
        "prompt": {"name": group.prompt.name, "text": group.prompt.text},
        "form": asked["form"],
        "sampling": sampling.model_dump(mode="json"),
    }
    return AnnotationTable(context.store, step, fingerprint(asked), values, about, made_by=maker(engine))
