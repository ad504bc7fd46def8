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

import json
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_engine.asking import told_elsewhere
from data_engine.grading import grade_outputs, grader_hash, verdicts_table
from data_engine.intake.staging import within_reach
from data_engine.runners import Ask, Cell
from data_engine.step import StepContext, StepResult
from shared.annotations import StoredCells
from shared.binomial import exact_interval
from shared.config import Strict
from shared.fingerprint import fingerprint
from shared.placeholders import harmless_question
from shared.prompts import load_prompt, render
from shared.vlm.checkpoint import maker
from shared.vlm.identity import engine_identity, engine_record
from shared.vlm.spec import EngineSpec, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from shared.annotations import AnnotationTable

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


def run(context: StepContext, settings: Settings) -> StepResult:
    """Rate the rows of `context.rows`."""
    import polars as pl

    started = time.monotonic()
    rows = _gradable(context)
    numbers = range(settings.seed + 1, settings.seed + settings.samples + 1)
    keys = {
        identity: fingerprint([question, list(hashes)])
        for identity, question, hashes in rows.select("id", "question", "image_hashes").iter_rows()
    }
    table = _answers(context, settings)
    wanted = [f"{key}/{number}" for key in dict.fromkeys(keys.values()) for number in numbers]
    missing = table.missing(wanted)
    elsewhere = table.made_elsewhere(wanted)
    warnings = _ask(context, settings, table, rows, keys, missing) if missing else []
    verdicts = verdicts_table(context)
    frames = [
        _rated(context, (table, verdicts), rows.slice(start, _PART_ROWS), keys, numbers)
        for start in range(0, rows.height, _PART_ROWS)
    ]
    annotations = pl.concat([pl.DataFrame(schema=_frame_schema()), *frames])
    warnings += told_elsewhere(NAME, elsewhere)
    lost = len(table.missing(wanted))
    if lost:
        warnings.append(f"{NAME}: {lost} of {len(wanted)} answers could not be had; their rows are rated by the others")
    system, question = (load_prompt(name, context.prompts) for name in settings.more_prompts)
    return StepResult(
        annotations=annotations,
        computed=len(missing) - lost,
        reused=len(wanted) - len(missing),
        seconds=time.monotonic() - started,
        warnings=warnings,  # a row that could not be rated stays: it has no rating
        record={
            "models": [
                {
                    "step": NAME,
                    **engine_record(settings.engine),
                    "sampling": _drawn(settings),
                    "made_elsewhere": elsewhere,
                }
            ],
            "prompts": [{"step": NAME, "name": file.name, "sha256": file.sha256} for file in (system, question)],
            "grader": grader_hash(),
        },
    )


def _drawn(settings: Settings) -> dict[str, Any]:
    return {**settings.sampling().model_dump(mode="json"), "samples": settings.samples, "seed": settings.seed}


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


def _answers(context: StepContext, settings: Settings) -> StoredCells:
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
    return StoredCells(context.store, NAME, fingerprint(asked), values=values, about=about, made_by=made_by)


def _ask(  # noqa: PLR0917 - what `run` found out
    context: StepContext,
    settings: Settings,
    table: StoredCells,
    rows: pl.DataFrame,
    keys: dict[str, str],
    missing: list[str],
) -> list[str]:
    """Ask for the missing answers; each is stored as it comes."""
    system = load_prompt(settings.system_prompt, context.prompts).text
    contents = {
        keys[identity]: (question, tuple(hashes))
        for identity, question, hashes in rows.select("id", "question", "image_hashes").iter_rows()
    }
    failed: list[str] = []

    def asks() -> Iterator[Ask]:
        for key in missing:
            content, _, number = key.partition("/")
            question, hashes = contents[content]
            text = render(settings.question_prompt, context.prompts, question=harmless_question(question))
            yield Ask(key, text, system, hashes, int(number))

    def sink(cells: list[Cell]) -> None:
        failed.extend(cell.failed for cell in cells if cell.value is None)
        table.append([{"key": cell.key, **cell.value} for cell in cells if cell.value is not None])

    pictures = max((len(hashes) for _, hashes in contents.values()), default=0)
    engine = settings.engine.model_copy(update={"max_images": max(settings.engine.max_images, pictures)})
    task = context.progress.task(NAME, len(missing), unit="answers")
    images = within_reach(context, context.images, asks())
    warnings = context.runner.ask(engine, asks(), sink, images=images, sampling=settings.sampling(), task=task)
    task.done()
    if failed:
        warnings = [*warnings, f"{NAME}: {len(failed)} answers failed, first: {failed[0]}"]
    return list(warnings)


def _rated(
    context: StepContext,
    tables: tuple[StoredCells, AnnotationTable],
    rows: pl.DataFrame,
    keys: dict[str, str],
    numbers: range,
) -> pl.DataFrame:
    """Pass rates of some rows from their stored answers."""
    import polars as pl

    table, verdicts = tables

    wanted = [f"{keys[identity]}/{number}" for identity in rows["id"].to_list() for number in numbers]
    cells = table.lookup(wanted)
    outputs: list[tuple[str, dict[str, Any]]] = []
    owners: list[str] = []
    for identity, label in _labels(rows):
        for number in numbers:
            cell = cells.get(f"{keys[identity]}/{number}")
            if cell is not None:
                outputs.append((cell["text"], label))
                owners.append(identity)
    correct = grade_outputs(context, verdicts, outputs)
    passed: dict[str, list[bool]] = {}
    for identity, accepted in zip(owners, correct, strict=True):
        if accepted is not None:
            passed.setdefault(identity, []).append(accepted)
    entries = []
    for identity, graded in passed.items():
        found = [cells[f"{keys[identity]}/{number}"] for number in numbers if f"{keys[identity]}/{number}" in cells]
        low, high = exact_interval(sum(graded), len(graded))
        entries.append(
            {
                "id": identity,
                "pass_rate": sum(graded) / len(graded),
                "low": low,
                "high": high,
                "samples": len(graded),
                "passes": sum(graded),
                "answer_tokens": sum(cell["tokens"] for cell in found) / len(found),
                "cut": sum(cell["finish_reason"] == "length" for cell in found),
            }
        )
    return pl.DataFrame(entries, schema=_frame_schema())


def _labels(rows: pl.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each row's answers are graded against, in the grader's terms."""
    columns = rows.select("id", "answer", "choices", "kind", "extra").iter_rows()
    for identity, gold, choices, kind, extra in columns:
        label: dict[str, Any] = {"gold": gold}
        if kind:
            label["kind"] = kind
        if choices:
            label["choices"] = choices
        known = json.loads(extra) if extra else {}
        yield identity, label | {name: known[name] for name in _EXTRAS if known.get(name) is not None}
