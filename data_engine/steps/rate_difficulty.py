"""How hard a row is for the policy itself: sampled answers of a checkpoint, graded, give a pass rate per row.

Writes, one row per row that was answered: `id` (str), `pass_rate` (share of the answers that the grader accepts),
`low` and `high` (its exact 95% interval), `samples` and `passes` (int), `answer_tokens` (mean), `cut` (answers that
`max_tokens` ended). `assemble` puts them into the column `rating`; phases filter and weigh by it
(`data.pass_rate_column = "rating.pass_rate"`). ViRL39K's own pass rates keep their column.
Asks: the question with its pictures, in the words in which a phase asks the policy, `samples` times with seeds of their
own. Every answer is a cell of its row's content, the model, the prompts and the sampling: more samples ask for the new
ones only, and a killed build continues. Golds that cannot be verified are not asked.
Source: difficulty by the policy's own pass rate, as ReVisual-R1, VL-Cogito and MMR1's variance-aware sampling use it.
Not covered: which rows train (phases), the format of an answer (rewards).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_engine.ask_blocks import as_one_block, ask_blocks
from data_engine.ask_job import AskingRows, Job
from data_engine.asking import told_elsewhere
from data_engine.blocks import Parts, RowBlocks
from data_engine.grading import grade_outputs, grader_hash, verdicts_table
from data_engine.step import StepContext, StepResult
from shared.annotations import AnnotationTable, PartitionedCells
from shared.binomial import exact_interval
from shared.config import Strict
from shared.fingerprint import fingerprint
from shared.placeholders import harmless_question
from shared.prompts import load_prompt, render
from shared.vlm.checkpoint import engine_identity, engine_record, maker
from shared.vlm.spec import EngineSpec, Sampling

if TYPE_CHECKING:
    import polars as pl

NAME = "rate_difficulty"
_PART_ROWS = 512
"""Rows whose answers are in memory at once: at 8 answers of 4 KB, 16 MB."""
_EXTRAS = ("tolerance", "unit")


class Settings(Strict):
    """Who is asked, how often and how."""

    engine: EngineSpec = Field(description="The policy: a checkpoint or an endpoint, and how it is driven.")
    samples: int = Field(default=8, ge=1, le=1024, description="Answers per row.")
    temperature: float = Field(default=1.0, gt=0, description="Of the answers, as in a phase's rollouts.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1 switches it off.")
    max_tokens: int = Field(default=2048, gt=0, description="Most tokens of one answer, as in a phase's rollouts.")
    seed: int = Field(default=0, ge=0, description="Answer number n is drawn with seed + n.")
    system_prompt: str = Field(default="reason_system", description="System prompt, by name in the set or as a file.")
    question_prompt: str = Field(default="question", description="User prompt with the field {question}.")

    @property
    def more_prompts(self) -> tuple[str, ...]:
        """Prompts that this step reads."""
        return (self.system_prompt, self.question_prompt)

    def sampling(self) -> Sampling:
        """How answers are drawn, without their seeds."""
        return Sampling.model_validate(
            {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p}
        )


@dataclass(frozen=True, kw_only=True)
class _Rating(AskingRows):
    """Asks for answers; a line is a row: `key` of its content, and what its answers are graded against.

    Attributes:
        settings: The step's.
        prompts: The prompt set.

    """

    settings: Settings
    prompts: str
    needs = ("verify_answers",)

    @property
    def numbers(self) -> range:
        """Seeds, which are also the answers' numbers."""
        return range(self.settings.seed + 1, self.settings.seed + self.settings.samples + 1)

    def lines(self, context: StepContext) -> pl.DataFrame:
        """Rows that can be graded."""
        import polars as pl

        rows = _gradable(context)
        contents = rows.select("question", "image_hashes").iter_rows()
        keys = pl.Series("key", [fingerprint([question, list(hashes)]) for question, hashes in contents], pl.String)
        return rows.with_columns(keys, table=pl.lit(0, pl.Int32))

    def asks(self, lines: pl.DataFrame, context: StepContext) -> pl.DataFrame:
        """Every answer of every content, in the order of the rows."""
        import polars as pl

        del context
        prompt, prompts = self.settings.question_prompt, self.prompts
        texts = [render(prompt, prompts, question=harmless_question(question)) for question in lines["question"]]
        return (
            lines.select("key", "table", pl.Series("text", texts, pl.String), images="image_hashes")
            .with_columns(seed=pl.lit(list(self.numbers), pl.List(pl.Int64)))
            .explode("seed")
            .with_columns(key=pl.col("key") + "/" + pl.col("seed").cast(pl.String))
        )

    def found(self, lines: pl.DataFrame, job: Job) -> tuple[pl.DataFrame, dict[str, int]]:
        import polars as pl

        (answers,) = job.tables
        verdicts = verdicts_table(job.context)
        wanted = [f"{key}/{number}" for key in lines["key"].unique() for number in self.numbers]
        missing = answers.missing(wanted)
        frames = [
            _rated(job.context, (answers, verdicts), lines.slice(start, _PART_ROWS), self.numbers)
            for start in range(0, lines.height, _PART_ROWS)
        ]
        rated = pl.concat([pl.DataFrame(schema=_frame_schema()), *frames])
        absent = sum(f"{key}/0" not in job.failed for key in missing)
        return rated.join(lines.select("id", "part"), on="id", maintain_order="left"), {"absent": absent}


def run(context: StepContext, settings: Settings) -> StepResult:
    """Rate the rows of `context.rows`."""
    return as_one_block(run_blocks, context, settings)


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """Rate rows in blocks."""
    import polars as pl

    system, question = (load_prompt(name, context.prompts) for name in settings.more_prompts)
    asking = _Rating(
        name=NAME,
        tables=(_answers(context, settings),),
        words=((system.text, ""),),
        engine=settings.engine,
        sampling=settings.sampling(),
        settings=settings,
        prompts=context.prompts,
        asks_per_line=settings.samples,
        all_pictures=True,
    )
    asked = ask_blocks(context, asking, blocks, context.images, unit="answers")
    warnings, lost, wanted = list(asked.warnings), len(asked.failed), sum(asked.distinct)
    if lost:
        warnings.append(f"{NAME}: {lost} answers failed, first: {next(iter(asked.failed.values()))}")
    warnings += told_elsewhere(NAME, asked.elsewhere)
    if lost:
        warnings.append(f"{NAME}: {lost} of {wanted} answers could not be had; their rows are rated by the others")
    drawn = {**settings.sampling().model_dump(mode="json"), "samples": settings.samples, "seed": settings.seed}
    model = {"step": NAME, **engine_record(settings.engine), "sampling": drawn, "made_elsewhere": asked.elsewhere}
    return StepResult(
        annotations=pl.DataFrame(schema=_frame_schema()),
        computed=asked.computed,
        reused=asked.reused,
        warnings=warnings,  # a row that could not be rated stays: it has no rating
        record={
            "models": [model],
            "prompts": [{"step": NAME, "name": file.name, "sha256": file.sha256} for file in (system, question)],
            "grader": grader_hash(),
        },
        parts=Parts(blocks.store, NAME),
    )


def _frame_schema() -> dict[str, Any]:
    import polars as pl

    share, count = pl.Float64, pl.Int32
    own = {"id": pl.String, "pass_rate": share, "low": share, "high": share, "samples": count, "passes": count}
    return {**own, "answer_tokens": share, "cut": count}


def _gradable(context: StepContext) -> pl.DataFrame:
    """Rows whose gold can be graded, with the kind that `verify_answers` read."""
    import polars as pl

    rows = context.rows.select("id", "question", "answer", "choices", "image_hashes", "extra")
    checked = context.results.get("verify_answers")
    if checked is None:
        return rows.with_columns(kind=pl.lit(None, pl.String))
    kinds = checked.annotations.filter(pl.col("status") != "unverifiable")
    return rows.join(
        kinds.select("id", pl.col("answer_kind").alias("kind")), on="id", how="inner", maintain_order="left"
    )


def _answers(context: StepContext, settings: Settings) -> PartitionedCells:
    """Answers of this model to these prompts, whatever their number."""
    import pyarrow as pa

    system, question = (load_prompt(name, context.prompts) for name in settings.more_prompts)
    asked = {
        "engine": engine_identity(settings.engine),
        "system_sha256": system.sha256,
        "question_sha256": question.sha256,
        "sampling": settings.sampling(),
    }
    about = {
        "step": NAME,
        "engine": engine_record(settings.engine),
        "system": {"name": system.name, "text": system.text},
        "question": {"name": question.name, "text": question.text},
        "sampling": settings.sampling().model_dump(mode="json"),
    }
    values = pa.schema(
        [("text", pa.string()), ("tokens", pa.int32()), ("prompt_tokens", pa.int32()), ("finish_reason", pa.string())]
    )
    made_by = maker(settings.engine)
    return PartitionedCells(context.store, NAME, fingerprint(asked), values=values, about=about, made_by=made_by)


def _rated(
    context: StepContext,
    tables: tuple[AnnotationTable, AnnotationTable],
    rows: pl.DataFrame,
    numbers: range,
) -> pl.DataFrame:
    """Pass rates of some rows from their stored answers."""
    import polars as pl

    table, verdicts = tables
    keys = dict(rows.select("id", "key").iter_rows())
    wanted = [f"{keys[identity]}/{number}" for identity in rows["id"].to_list() for number in numbers]
    cells = table.lookup(wanted)
    answered = [
        (identity, label, cells[key])
        for identity, label in _labels(rows)
        for number in numbers
        if (key := f"{keys[identity]}/{number}") in cells
    ]
    correct = grade_outputs(context, verdicts, [(cell["text"], label) for _, label, cell in answered])
    entries = []
    for identity, group in itertools.groupby(zip(answered, correct, strict=True), key=lambda one: one[0][0]):
        graded = [(cell, accepted) for (_, _, cell), accepted in group if accepted is not None]
        if not graded:
            continue
        passes = sum(accepted for _, accepted in graded)
        low, high = exact_interval(passes, len(graded))
        entries.append(
            {
                "id": identity,
                "pass_rate": passes / len(graded),
                "low": low,
                "high": high,
                "samples": len(graded),
                "passes": passes,
                "answer_tokens": sum(cell["tokens"] for cell, _ in graded) / len(graded),
                "cut": sum(cell["finish_reason"] == "length" for cell, _ in graded),
            }
        )
    return pl.DataFrame(entries, schema=_frame_schema())


def _labels(rows: pl.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each row's answers are graded against, in the grader's terms."""
    columns = rows.select("id", "answer", "choices", "kind", "extra").iter_rows()
    for identity, gold, choices, kind, extra in columns:
        known = json.loads(extra) if extra else {}
        label = {"gold": gold, "kind": kind or None, "choices": choices or None}
        label |= {name: known.get(name) for name in _EXTRAS}
        yield identity, {name: value for name, value in label.items() if value is not None}
