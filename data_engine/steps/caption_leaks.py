"""Finds captions that give the answer away, and asks for them again where the recipe says so.

Writes, one row per row with captions: `id` (str), `leaks` (bool: a caption that the row ends with holds the gold where
the question does not), `leaked` (bool: a caption first written did), `rule`, `gold`, `found`, `span` (str, see
`shared.caption_leaks.Leak`; empty where nothing was found), `picture` (int, from 1; 0 where nothing was found),
`removes` (bool: the row leaves), `captions` (list of str: the row's captions where this step changed them, else null).
Cells are kept by question, options, gold and caption, in a context that names the rule's own code. A caption that is
asked for again is a cell of `caption_images` under a prompt of its own: the type's, and the sentences of
`caption_again` behind the request. It takes the old one's place in the rows that it was asked for, not in others.
Source: the paper trains CMRA with the caption in the prompt (section 4.2); what a caption says is trained on.
Not covered: what the rule sees (`shared/caption_leaks.py`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_engine.ask_blocks import Asked, as_one_block, ask_blocks
from data_engine.asking import AskingImages, Group, image_tables, told_of_images
from data_engine.blocks import Parts, RowBlocks, over, without_runner
from data_engine.captioning import Captioning, caption_value, caption_values, readable
from data_engine.cell_counts import CellNotes, noted
from data_engine.step import StepContext, StepResult, by_image, make_cells
from shared.annotations import StoredCells
from shared.config import Strict
from shared.fingerprint import bytes_hash, fingerprint
from shared.language import LANGUAGES, language_of
from shared.prompts import Prompt, load_prompt
from shared.schema import IMAGE_TYPES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

NAME = "caption_leaks"
CAPTIONS_FROM = "caption_images"
TYPES_FROM = "type_images"
AGAIN = "caption_again"
FOUND = ("rule", "gold", "found", "span")
"""Value columns: the attributes of a `Leak`, empty where there is none."""


class Settings(Strict):
    """What is done about a caption that gives the answer away; it is noted in the ledger whatever is chosen."""

    action: Literal["keep", "drop", "drop-caption", "re-ask"] = Field(
        default="keep",
        description="keep both, drop the row, drop-caption (phases without captions still train on the row), or re-ask "
        "with the prompt set's caption_again behind the request.",
    )
    still: Literal["keep", "drop", "drop-caption"] = Field(
        default="drop-caption", description="With re-ask: what is done where the new caption gives it away, too."
    )

    @property
    def more_prompts(self) -> tuple[str, ...]:
        """Prompts that this step reads beside the captions' own."""
        return (AGAIN,) if self.action == "re-ask" else ()


@dataclass(frozen=True)
class _Job:
    """What a worker is told.

    Attributes:
        context: The build; results lie in parts.
        settings: The step's.
        blocks: The rows.
        asked: Captions that were asked for again, by picture and language; None where none were.

    """

    context: StepContext
    settings: Settings
    blocks: RowBlocks
    asked: Parts | None = None

    def at(self, name: str) -> Parts:
        """Parts of one kind."""
        return Parts(self.blocks.store, f"{NAME}.{name}")

    @property
    def found(self) -> Parts:
        """The step's annotations."""
        return Parts(self.blocks.store, NAME)

    @property
    def notes(self) -> CellNotes:
        """Cells that blocks looked for."""
        return CellNotes(self.at("cells"), len(self.blocks.heights))


def run(context: StepContext, settings: Settings) -> StepResult:
    """Judge the captions of `context.rows`; see `run_blocks`."""
    return as_one_block(run_blocks, context, settings)


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """Judge the captions that `caption_images` wrote, block by block.

    Raises:
        UsageError: the recipe has no `caption_images` before this step.

    """
    import polars as pl

    context.result_of(CAPTIONS_FROM, NAME, "captions")
    job = _Job(without_runner(context), settings, blocks)
    task = context.progress.task(NAME, blocks.height)
    told = list(over(context.runner, _judge_block, blocks.numbers, job, task=task))
    task.done()
    captioned, leaked = (sum(one[name] for one in told) for name in ("captioned", "leaked"))
    still, numbers = leaked, [*blocks.numbers]
    warnings: list[str] = []
    prompts: list[dict[str, Any]] = []
    more = (0, 0)
    if settings.action == "re-ask":
        if leaked:
            asked, warnings, prompts = _ask_again(context, job)
            job, more = replace(job, asked=Parts(blocks.store, AGAIN)), (asked.computed, asked.reused)
        still = sum(one["leaks"] for one in over(context.runner, _judge_again, blocks.numbers, job))
        numbers += [len(numbers) + block for block in blocks.numbers]
        job.at("first").delete(blocks.numbers)
    if captioned:
        warnings.append(_told(captioned, leaked, still, settings))
    computed, reused = job.notes.count(context.runner, numbers)
    return StepResult(
        annotations=pl.DataFrame(schema=_frame_schema()),
        computed=computed + more[0],
        reused=reused + more[1],
        warnings=warnings,  # a caption that could not be asked for again stays as it was, and is judged as it is
        record={"prompts": prompts},
        parts=job.found,
    )


_Captions = dict[str, list[str | None]]
"""Captions of each row, by its id."""
_Leaks = dict[str, list[dict[str, str]]]
"""What was found in each caption of a row: `rule`, `gold`, `found`, `span`, all empty where nothing was."""


def _leak(leaks: list[dict[str, str]]) -> dict[str, Any]:
    """First leak of a row with its `picture`; empty where there is none."""
    return next(({**leak, "picture": number} for number, leak in enumerate(leaks, start=1) if leak["rule"]), {})


def _entries(before: _Leaks, after: _Leaks, first: _Captions, last: _Captions, final: str) -> pl.DataFrame:
    """Annotations of the rows with captions; `final` is what is done about those that still give the answer away."""
    import polars as pl

    entries = []
    for identity, written in first.items():
        leak = _leak(after[identity])
        captions = last[identity] if last[identity] != written else None
        if leak and final == "drop-caption":
            captions = [None] * len(written)
        entries.append(
            {
                "id": identity,
                "leaks": bool(leak),
                "leaked": bool(_leak(before[identity])),
                **{name: leak.get(name, "") for name in FOUND},
                "picture": leak.get("picture", 0),
                "removes": bool(leak) and final == "drop",
                "captions": captions,
            }
        )
    return pl.DataFrame(entries, schema=_frame_schema())


def _first_schema() -> dict[str, Any]:
    import polars as pl

    leak = pl.Struct(dict.fromkeys(FOUND, pl.String))
    return {"id": pl.String, "captions": pl.List(pl.String), "leaks": pl.List(leak)}


def _frame_schema() -> dict[str, Any]:
    import polars as pl

    own = {"id": pl.String, "leaks": pl.Boolean, "leaked": pl.Boolean, **dict.fromkeys(FOUND, pl.String)}
    return {**own, "picture": pl.Int64, "removes": pl.Boolean, "captions": pl.List(pl.String)}


def _told(rows: int, leaked: int, still: int, settings: Settings) -> str:
    share = f"{NAME}: {leaked} of {rows} captioned rows ({leaked / rows:.1%}) have the gold in a caption alone"
    ending = {"keep": "kept", "drop": "rows dropped", "drop-caption": "captions dropped"}
    if settings.action == "re-ask":
        return f"{share}; asked again, {still} still do ({ending[settings.still]})"
    return f"{share} ({ending[settings.action]})"


def _captions(rows: pl.DataFrame, known: Callable[..., dict[str, Any] | None]) -> _Captions:
    """Captions of the rows that have any."""
    found: _Captions = {}
    for identity, question, choices, _, hashes in rows.iter_rows():
        captions = [(known(sha256, question, choices) or {}).get("caption") for sha256 in hashes]
        if any(captions):
            found[identity] = captions
    return found


def _rows(job: _Job, block: int) -> pl.DataFrame:
    columns = ["id", "question", "choices", "answer", "image_hashes"]
    return job.blocks.read(block, columns).select(columns)


def _judge_block(block: int, job: _Job) -> dict[str, Any]:
    """Judge the captions of a block as they were first written."""
    import polars as pl

    rows = _rows(job, block)
    written = job.context.results[CAPTIONS_FROM].by_block
    first = _captions(rows, by_image(written.read(block)))
    leaks, notes = _judge(replace(job.context, first=job.notes.first(block)), rows, first)
    job.notes.write(block, notes)
    if job.settings.action == "re-ask":
        kept = [{"id": identity, "captions": first[identity], "leaks": leaks[identity]} for identity in first]
        job.at("first").write(block, pl.DataFrame(kept, schema=_first_schema()))
    else:
        job.found.write(block, _entries(leaks, leaks, first, first, job.settings.action))
    leaked = sum(bool(_leak(some)) for some in leaks.values())
    return {"rows": rows.height, "captioned": len(first), "leaked": leaked}


def _judge_again(block: int, job: _Job) -> dict[str, Any]:
    """Judge those captions of a block anew that were asked for again."""
    rows, first, before = _rows(job, block), _Captions(), _Leaks()
    for identity, captions, leaks in job.at("first").read(block).iter_rows():
        first[identity], before[identity] = captions, leaks
    changed = _Captions()
    if job.asked is not None:
        told = job.asked.read(block).select("image_hash", "language", "caption")
        new = {(sha256, language): caption for sha256, language, caption in told.iter_rows()}
        for identity, question, choices, _, hashes in rows.iter_rows():
            if _leak(before.get(identity, [])):
                language = language_of(question, choices)
                changed[identity] = [
                    new.get((sha256, language), caption) if leak["rule"] else caption
                    for sha256, leak, caption in zip(hashes, before[identity], first[identity], strict=True)
                ]
    number = len(job.blocks.heights) + block
    judged, notes = _judge(replace(job.context, first=job.notes.first(number)), rows, changed)
    job.notes.write(number, notes)
    found = _entries(before, before | judged, first, first | changed, job.settings.still)
    job.found.write(block, found)
    return {"leaks": int(found["leaks"].sum())}


def _judge(context: StepContext, rows: pl.DataFrame, captions: _Captions) -> tuple[_Leaks, pl.DataFrame]:
    """What is found in the captions, and which cells were looked for."""
    import polars as pl
    import pyarrow as pa

    about = {"step": NAME, "rule": rule_hash()}
    values = pa.schema([(name, pa.string()) for name in FOUND])
    table = StoredCells(context.store, NAME, fingerprint(about), values=values, about=about)
    places: dict[str, list[str]] = {}
    asked: list[tuple[Any, ...]] = []
    for identity, question, choices, answer, _ in rows.iter_rows():
        for caption in captions.get(identity, ()):
            key = fingerprint([question, choices, answer, caption])
            places.setdefault(identity, []).append(key)
            asked.append((key, question, choices, answer, caption))
    schema: dict[str, Any] = dict.fromkeys(("key", "question", "choices", "answer", "caption"), pl.String)
    frame = pl.DataFrame(asked, schema=schema | {"choices": pl.List(pl.String)}, orient="row")
    made = make_cells(context, table, frame, judge_batch)
    cells = table.lookup(frame["key"].to_list())
    found = {identity: [cells[key] for key in keys] for identity, keys in places.items()}
    return found, noted(list(cells), made)


def judge_batch(batch: pa.Table) -> pa.Table:
    """Judge a table with `key`, `question`, `choices`, `answer` and `caption`; returns `key` and the value columns."""
    import pyarrow as pa

    from shared.caption_leaks import caption_leak

    judged = []
    for row in batch.to_pylist():
        leak = caption_leak(row["question"], row["choices"] or (), row["answer"], row["caption"] or "")
        judged.append({"key": row["key"], **{name: getattr(leak, name) if leak else "" for name in FOUND}})
    return pa.Table.from_pylist(judged, schema=pa.schema([(name, pa.string()) for name in ("key", *FOUND)]))


@dataclass(frozen=True, kw_only=True)
class _Again(AskingImages):
    """Asks for captions that give the answer away again.

    Attributes:
        kinds: Image type and language of each group.

    """

    kinds: tuple[tuple[str, str], ...]
    needs = (TYPES_FROM, NAME)
    order = ("image_hash", "language")

    def lines(self, context: StepContext) -> pl.DataFrame:
        """Pictures of some rows whose captions are asked for again, each in the language of its question."""
        import polars as pl

        types = dict(context.results[TYPES_FROM].annotations.select("image_hash", "image_type").iter_rows())
        leaks = dict(context.results[NAME].annotations.select("id", "leaks").iter_rows())
        wanted = {
            (sha256, self.kinds.index((types[sha256], language_of(question, choices))))
            for identity, question, choices, hashes in context.rows.select(
                "id", "question", "choices", "image_hashes"
            ).iter_rows()
            for sha256, leak in zip(hashes, leaks.get(identity) or [], strict=False)
            if leak["rule"]
        }
        return pl.DataFrame(sorted(wanted), schema={"key": pl.String, "table": pl.Int32}, orient="row")

    def annotations(self, cells: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """Captions as they may stand in a prompt."""
        import polars as pl

        languages = [self.kinds[group][1] for group in cells["group"]]
        cells = readable(cells).with_columns(pl.Series("language", languages, pl.String))
        return cells.select("image_hash", "group", "language", "caption"), {}


def _ask_again(context: StepContext, job: _Job) -> tuple[Asked, list[str], list[dict[str, Any]]]:
    """Ask for every leaking caption again: what was asked, what to tell, and the prompts."""
    import polars as pl

    captioning = Captioning.model_validate(context.recipe["steps"][CAPTIONS_FROM])
    first = StepResult(pl.DataFrame(), parts=job.at("first"))
    context = replace(context, results={**context.results, NAME: first})
    kinds = tuple(sorted(itertools.product(IMAGE_TYPES, LANGUAGES)))
    groups = [Group(_prompt(captioning, context.prompts, *kind), "system") for kind in kinds]
    made = image_tables(
        context,
        CAPTIONS_FROM,
        engine=captioning.engine,
        sampling=captioning.sampling,
        groups=groups,
        values=caption_values(),
    )
    asking = _Again(**{**made, "name": AGAIN}, to_value=caption_value, kinds=kinds)
    asked = ask_blocks(context, asking, job.blocks, context.images, unit="images", description=NAME)
    prompts = [
        {"step": NAME, "image_type": kind[0], "name": group.prompt.name, "sha256": group.prompt.sha256}
        for number, (kind, group) in enumerate(zip(kinds, groups, strict=True))
        if asked.counts[f"lines of group {number}"]
    ]
    return asked, told_of_images(replace(asking, name=NAME), asked), prompts


def _prompt(captioning: Captioning, prompts: str, image_type: str, language: str) -> Prompt:
    """The type's prompt with the sentences of `caption_again` behind its request."""
    own = load_prompt(captioning.prompt_of(image_type), prompts, language)
    again = load_prompt(AGAIN, prompts, language)
    system, user = own.turns("system")
    user = f"{user}\n{again.text}".strip()
    return Prompt(f"{own.name}+{again.name}", own.file, own.about, system, user, f"{system}\n{user}")


@functools.cache
def rule_hash() -> str:
    """Hash over the rule's source file."""
    import shared.caption_leaks

    return bytes_hash(Path(shared.caption_leaks.__file__).read_bytes())
