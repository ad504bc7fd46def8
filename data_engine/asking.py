"""Asking a model about images, cell by cell: what is known is found, what is missing is asked and stored at once.

Input: groups of images that share one prompt. Output: a row per image and group that has an answer, failures, and how
many cells were computed and reused. Each group is its own annotation context, so that one changed prompt re-asks its
own group only. The same image may stand in several groups (its caption in two languages).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from data_engine.ask_blocks import Asked, ask_blocks
from data_engine.ask_job import Asking, AskingRows, Job
from data_engine.blocks import Parts
from data_engine.step import StepContext, StepResult
from shared.annotations import AnnotationTable
from shared.fingerprint import fingerprint
from shared.vlm.checkpoint import maker
from shared.vlm.identity import engine_identity, engine_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
    import pyarrow as pa

    from data_engine.blocks import RowBlocks
    from shared.prompts import Prompt
    from shared.vlm.spec import EngineSpec, Sampling


@dataclass(frozen=True)
class Group:
    """Images asked with the same words.

    Attributes:
        prompt: The prompt file.
        alone: Which turn a file of one text is: `system` (the user then shows the picture only) or `user`.

    """

    prompt: Prompt
    alone: Literal["system", "user"]

    @property
    def form(self) -> str:
        """Turns that the prompt fills: `system`, `user` or `both`."""
        system, user = self.prompt.turns(self.alone)
        return "both" if system and user else "system" if system else "user"

    @property
    def words(self) -> tuple[str, str]:
        """System prompt, and what the user says: the picture, then the words."""
        system, user = self.prompt.turns(self.alone)
        return system, f"<image>{user}"


@dataclass(frozen=True)
class AskingImages(Asking):
    """Asks about pictures; a line is a picture (`key`) and its group (`table`).

    Attributes:
        values: Value columns of the step's annotation tables.
        to_value: A chat answer (`text`, `tokens`, `prompt_tokens`, `finish_reason`) as those columns.

    """

    values: pa.Schema
    to_value: Callable[[dict[str, Any]], dict[str, Any]]

    def value(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Value columns of an answer."""
        return self.to_value(answer)

    def cells(self, wanted: pl.DataFrame, tables: Sequence[AnnotationTable]) -> pl.DataFrame:
        """`image_hash`, `group` and the value columns of every line that has an answer, sorted by both."""
        import polars as pl

        keys = pl.DataFrame(schema={"image_hash": pl.String, "group": wanted["table"].dtype})
        found = [keys.hstack(pl.DataFrame(pl.from_arrow(self.values.empty_table())))]
        for number, table in enumerate(tables):
            known = table.rows(wanted.filter(pl.col("table") == number)["key"].to_list())
            if known is not None:
                frame = pl.DataFrame(pl.from_arrow(known)).rename({"key": "image_hash"})
                frame = frame.with_columns(group=pl.lit(number, wanted["table"].dtype))
                found.append(frame.select(found[0].columns))
        return pl.concat(found).sort("image_hash", "group")


class AskingRowImages(AskingImages, AskingRows):
    """Asks about the pictures of rows, and annotates each picture."""

    @property
    def order(self) -> tuple[str, ...]:
        """By picture."""
        return ("image_hash",)

    def annotations(self, cells: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """Annotations of answered pictures (`image_hash`, `group`, the value columns), and counts of them."""
        return cells, {}

    def found(self, lines: pl.DataFrame, job: Job) -> tuple[pl.DataFrame, dict[str, int]]:
        """One row per line whose picture has an answer."""
        import polars as pl

        wanted = lines.unique(["key", "table"], maintain_order=True).select("key", "table")
        cells = self.cells(wanted, job.tables)
        failed = sum(f"{key}/{table}" in job.failed for key, table in wanted.iter_rows()) if job.failed else 0
        found, counts = self.annotations(cells)
        where = lines.select("part", pl.col("key").alias("image_hash"), pl.col("table").alias("group"))
        joined = where.join(found, on=["image_hash", "group"]).drop("group")
        groups = Counter(f"lines of group {number}" for number in wanted["table"].to_list())
        return joined, {**counts, **groups, "absent": wanted.height - cells.height - failed}


def lines_of(images: Sequence[str] | pl.Series, group: int) -> pl.DataFrame:
    """Lines of some pictures of one group."""
    import polars as pl

    keys = pl.Series("key", images, dtype=pl.String)
    return pl.DataFrame([keys]).with_columns(table=pl.lit(group, pl.Int32))


def image_tables(
    context: StepContext,
    step: str,
    *,
    engine: EngineSpec,
    sampling: Sampling,
    groups: Sequence[Group],
    values: pa.Schema,
) -> dict[str, Any]:
    """What every `AskingImages` of a step is made of, beside how an answer becomes a cell."""
    identity = engine_identity(engine)
    tables = [
        _table(context, step, engine=engine, identity=identity, sampling=sampling, group=group, values=values)
        for group in groups
    ]
    return {
        "name": step,
        "tables": tuple(tables),
        "words": tuple(group.words for group in groups),
        "engine": engine,
        "sampling": sampling,
        "values": values,
    }


@dataclass(frozen=True)
class AskedImages:
    """What asking about the pictures of all rows gave.

    Attributes:
        asking: What was asked.
        asked: Counts.
        parts: Annotations.

    """

    asking: AskingImages
    asked: Asked
    parts: Parts

    @property
    def counts(self) -> Counter[str]:
        """From `annotations`, and `lines of group N`."""
        return self.asked.counts

    @property
    def made_elsewhere(self) -> dict[str, int]:
        """Cells found that something else than this code and library made: maker -> cells."""
        return self.asked.elsewhere

    def result(self, started: float, *, record: Mapping[str, Any], warnings: Sequence[str] = ()) -> StepResult:
        """The step's result."""
        import polars as pl

        failed = sorted((key.rpartition("/")[0], reason) for key, reason in self.asked.failed.items())
        return StepResult(
            annotations=pl.DataFrame(),
            computed=self.asked.computed,
            reused=self.asked.reused,
            seconds=time.monotonic() - started,
            failures=pl.DataFrame(failed, schema=["image_hash", "reason"], orient="row") if failed else None,
            warnings=[*told_of_images(self.asking, self.asked), *warnings],
            record=record,
            parts=self.parts,
        )


def ask_about_rows(context: StepContext, asking: AskingRowImages, blocks: RowBlocks) -> AskedImages:
    """Get the pictures of all rows answered; no engine starts when all cells are known."""
    asked = ask_blocks(context, asking, blocks, context.images, unit="images")
    return AskedImages(asking, asked, Parts(blocks.store, asking.name))


def told_of_images(asking: Asking, asked: Asked) -> list[str]:
    """Restarts, lost workers, failed images, cells that other code made."""
    first = next(iter(asked.failed.values()), "")
    failed = [f"{asking.name}: {len(asked.failed)} images failed, first: {first}"] if asked.failed else []
    return [*asked.warnings, *failed, *told_elsewhere(asking.name, asked.elsewhere)]


def told_elsewhere(step: str, elsewhere: Mapping[str, int]) -> list[str]:
    """A sentence about cells that other code or another version of the library made; none where there are none."""
    if not elsewhere:
        return []
    makers = ", ".join(f"{count} by {maker or 'code that does not say'}" for maker, count in elsewhere.items())
    return [f"{step}: {sum(elsewhere.values())} cells found were made otherwise ({makers}); their keys are the same"]


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
