"""Asking a model about images, cell by cell: what is known is found, what is missing is asked and stored at once.

Input: groups of images that share one prompt. Output: one frame with a row per image that has an answer, failures, and
how many cells were computed and reused. Each group is its own annotation context, so that one changed prompt re-asks
its own group only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.annotations import AnnotationTable
from data_engine.intake.staging import within_reach
from data_engine.runners import Ask, Cell
from shared.errors import UsageError, did_you_mean
from shared.fingerprint import bytes_hash, fingerprint
from shared.prompts import prompt, prompt_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl
    import pyarrow as pa

    from data_engine.steps.base import StepContext
    from shared.vlm.spec import EngineSpec, Sampling


@dataclass(frozen=True)
class Group:
    """Images asked with the same words.

    Attributes:
        prompt_name: Name for records, e.g. `caption_chart`.
        prompt_text: The prompt file's text.
        as_system: True: the prompt is the system message and the user shows the picture only. False: the user shows
            the picture, then the prompt.
        images: sha256 of the images, in the order in which they are asked.

    """

    prompt_name: str
    prompt_text: str
    as_system: bool
    images: Sequence[str]

    def ask(self, sha256: str) -> Ask:
        """Ask about one image."""
        if self.as_system:
            return Ask(sha256, "<image>", self.prompt_text, (sha256,))
        return Ask(sha256, f"<image>{self.prompt_text}", "", (sha256,))


@dataclass(frozen=True)
class Asked:
    """What asking gave.

    Attributes:
        cells: `image_hash` and the step's value columns, sorted by `image_hash`.
        failures: (`image_hash`, `reason`), or None.
        computed: Cells asked now.
        reused: Cells found.
        warnings: Restarts, lost workers, failed images.

    """

    cells: pl.DataFrame
    failures: pl.DataFrame | None
    computed: int
    reused: int
    warnings: list[str]


def load_prompt(name_or_path: str) -> str:
    """Text of a prompt by name (`shared/prompts`), or of a user's own file by path (ending in `.md` or `.txt`).

    Raises:
        UsageError: no such prompt; names the nearest one.

    """
    if name_or_path.endswith((".md", ".txt")):
        path = Path(name_or_path)
        if not path.is_file():
            message = f"prompt file {name_or_path} does not exist"
            raise UsageError(message, "Name a file, or one of: " + ", ".join(prompt_names()))
        return path.read_text(encoding="utf-8").rstrip("\n")
    if name_or_path not in prompt_names():
        message = f"unknown prompt {name_or_path!r}"
        raise UsageError(message, did_you_mean(name_or_path, prompt_names()))
    return prompt(name_or_path)


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
        groups: What; an image stands in one group only.
        values: Value columns of the step's annotation table.
        to_value: A chat answer (`text`, `tokens`, `prompt_tokens`, `finish_reason`) as those columns.

    """
    import polars as pl

    identity = engine.identity()
    tables = [
        _table(context, step, engine=engine, identity=identity, sampling=sampling, group=group, values=values)
        for group in groups
    ]
    missing = [table.missing(group.images) for table, group in zip(tables, groups, strict=True)]
    table_of = {sha256: table for table, hashes in zip(tables, missing, strict=True) for sha256 in hashes}
    for table, hashes in zip(tables, missing, strict=True):
        if hashes:
            table.refresh()  # what is appended stays on the store until all is answered
    failed: list[tuple[str, str]] = []

    def sink(cells: list[Cell]) -> None:
        rows: dict[int, list[dict[str, Any]]] = {}
        for cell in cells:
            if cell.value is None:
                failed.append((cell.key, cell.failed))
            else:
                index = tables.index(table_of[cell.key])
                rows.setdefault(index, []).append({"key": cell.key, **to_value(cell.value)})
        for index, found in rows.items():
            tables[index].append(found)

    def asks() -> Iterator[Ask]:
        """Made as they are asked, so that they are never all in memory."""
        return (group.ask(key) for group, hashes in zip(groups, missing, strict=True) for key in hashes)

    count = sum(len(hashes) for hashes in missing)
    warnings: list[str] = []
    if count:
        images = within_reach(context, context.images, asks())
        task = context.progress.task(step, count)
        warnings = context.runner.ask(engine, asks(), sink, images=images, sampling=sampling, task=task)
        task.done()
    table_of.clear()
    missing.clear()
    if failed:
        warnings = [*warnings, f"{step}: {len(failed)} images failed, first: {failed[0][1]}"]
    return Asked(
        cells=_answered(tables, groups, values),
        failures=pl.DataFrame(sorted(failed), schema=["image_hash", "reason"], orient="row") if failed else None,
        computed=count - len(failed),
        reused=sum(len(set(group.images)) for group in groups) - count,
        warnings=warnings,
    )


def _answered(tables: Sequence[AnnotationTable], groups: Sequence[Group], values: pa.Schema) -> pl.DataFrame:
    """`image_hash` and the value columns of every image that has an answer, sorted by `image_hash`."""
    import polars as pl

    cells = pl.DataFrame(pl.from_arrow(values.empty_table())).insert_column(0, pl.Series("key", [], dtype=pl.String))
    for table, group in zip(tables, groups, strict=True):
        known = table.rows(group.images)
        table.refresh()  # the frame has it now: one copy is enough
        if known is not None:
            cells = cells.vstack(pl.DataFrame(pl.from_arrow(known)))
    return cells.rename({"key": "image_hash"}).sort("image_hash")


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
        "prompt_sha256": bytes_hash(group.prompt_text.encode()),
        "form": "system" if group.as_system else "user",
        "sampling": sampling,
    }
    about = {
        "step": step,
        "engine": engine.record(),
        "prompt": {"name": group.prompt_name, "text": group.prompt_text},
        "form": asked["form"],
        "sampling": sampling.model_dump(mode="json"),
    }
    return AnnotationTable(context.store, step, fingerprint(asked), values, about)
