"""Asking a model about images, cell by cell: what is known is found, what is missing is asked and stored at once.

Input: groups of images that share one prompt. Output: a row per image and group that has an answer, failures, and how
many cells were computed and reused. Each group is its own annotation context, so that one changed prompt re-asks its
own group only. The same image may stand in several groups (its caption in two languages).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from data_engine.ask_job import Asking, AskingRows, Job
from data_engine.blocks import Parts, RowBlocks
from data_engine.step import StepContext, StepResult
from shared.annotations import AnnotationTable
from shared.fingerprint import fingerprint
from shared.vlm.checkpoint import engine_identity, engine_record, maker

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.ask_blocks import Asked
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


@dataclass(frozen=True, kw_only=True)
class AskingImages(AskingRows):
    """Asks about the pictures of rows, and annotates each; a line is a picture (`key`) and its group (`table`).

    Attributes:
        values: Value columns of the step's annotation tables.
        to_value: A chat answer (`text`, `tokens`, `prompt_tokens`, `finish_reason`) as those columns.

    """

    sampling: Sampling
    values: pa.Schema
    to_value: Callable[[dict[str, Any]], dict[str, Any]]
    order: ClassVar[tuple[str, ...]] = ("image_hash",)

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
    identity, record, made_by = engine_identity(engine), engine_record(engine), maker(engine)
    tables = []
    for group in groups:
        prompt, form = group.prompt, group.form
        asked = {"engine": identity, "prompt_sha256": prompt.sha256, "form": form, "sampling": sampling}
        about = {
            "step": step,
            "engine": record,
            "prompt": {"name": prompt.name, "text": prompt.text},
            "form": form,
            "sampling": sampling.model_dump(mode="json"),
        }
        tables.append(AnnotationTable(context.store, step, fingerprint(asked), values, about, made_by=made_by))
    return {
        "name": step,
        "tables": tuple(tables),
        "words": tuple(group.words for group in groups),
        "engine": engine,
        "sampling": sampling,
        "values": values,
    }


def result_of_images(
    asking: AskingImages,
    asked: Asked,
    blocks: RowBlocks,
    prompts: Sequence[Mapping[str, Any]],
    warnings: Sequence[str] = (),
) -> StepResult:
    """Result of a step that asked about the pictures of all rows, with its model and `prompts` in the record."""
    import polars as pl

    failed = sorted((key.rpartition("/")[0], reason) for key, reason in asked.failed.items())
    sampling = asking.sampling.model_dump(mode="json")
    model = {"step": asking.name, **engine_record(asking.engine), "sampling": sampling}
    return StepResult(
        annotations=pl.DataFrame(),
        computed=asked.computed,
        reused=asked.reused,
        failures=pl.DataFrame(failed, schema=["image_hash", "reason"], orient="row") if failed else None,
        warnings=[*told_of_images(asking, asked), *warnings],
        record={"models": [{**model, "made_elsewhere": asked.elsewhere}], "prompts": prompts},
        parts=Parts(blocks.store, asking.name),
    )


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
