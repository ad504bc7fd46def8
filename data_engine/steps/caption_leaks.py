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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_engine.asking import AskingImages, Group, ask_about_images, image_tables
from data_engine.captioning import Captioning, caption_value, caption_values, readable
from data_engine.step import StepContext, StepResult, by_image
from shared.config import Strict
from shared.fingerprint import bytes_hash, fingerprint
from shared.language import language_of
from shared.prompts import Prompt, load_prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    import pyarrow as pa

    from data_engine.ask_blocks import Asked

NAME = "caption_leaks"
CAPTIONS_FROM = "caption_images"
AGAIN = "caption_again"
_BATCH_ROWS = 1024
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


def run(context: StepContext, settings: Settings) -> StepResult:
    """Judge the captions that `caption_images` wrote.

    Raises:
        UsageError: the recipe has no `caption_images` before this step.

    """
    import polars as pl

    started = time.monotonic()
    rows = context.rows.select("id", "question", "choices", "answer", "image_hashes")
    first = _captions(rows, by_image(context.result_of(CAPTIONS_FROM, NAME, "captions").annotations))
    before, computed, reused = _judge(context, rows, first)
    last, after = first, before
    leaking = rows.filter(pl.col("id").is_in([identity for identity, leaks in before.items() if _leak(leaks)]))
    warnings: list[str] = []
    prompts: list[dict[str, Any]] = []
    if settings.action == "re-ask" and leaking.height:
        asked, warnings, prompts, changed = _ask_again(context, leaking, first, before)
        judged, more, known = _judge(context, leaking, changed)
        last, after = first | changed, before | judged
        computed, reused = computed + asked.computed + more, reused + asked.reused + known
    final = settings.action if settings.action != "re-ask" else settings.still
    entries = [_entry(identity, before, after, first, last, final) for identity in first]
    if entries:
        warnings.append(_told(len(entries), leaking.height, sum(entry["leaks"] for entry in entries), settings))
    return StepResult(
        annotations=pl.DataFrame(entries, schema=_frame_schema()),
        computed=computed,
        reused=reused,
        seconds=time.monotonic() - started,
        warnings=warnings,  # a caption that could not be asked for again stays as it was, and is judged as it is
        record={"prompts": prompts},
    )


_Captions = dict[str, list[str | None]]
"""Captions of each row, by its id."""
_Leaks = dict[str, list[dict[str, str]]]
"""What was found in each caption of a row: `rule`, `gold`, `found`, `span`, all empty where nothing was."""


def _leak(leaks: list[dict[str, str]]) -> dict[str, Any]:
    """First leak of a row with its `picture`; empty where there is none."""
    return next(({**leak, "picture": number} for number, leak in enumerate(leaks, start=1) if leak["rule"]), {})


def _entry(  # noqa: PLR0917 - one row before and after
    identity: str, before: _Leaks, after: _Leaks, first: _Captions, last: _Captions, final: str
) -> dict[str, Any]:
    leak = _leak(after[identity])
    captions = last[identity] if last[identity] != first[identity] else None
    if leak and final == "drop-caption":
        captions = [None] * len(first[identity])
    return {
        "id": identity,
        "leaks": bool(leak),
        "leaked": bool(_leak(before[identity])),
        **{name: leak.get(name, "") for name in FOUND},
        "picture": leak.get("picture", 0),
        "removes": bool(leak) and final == "drop",
        "captions": captions,
    }


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


def _judge(context: StepContext, rows: pl.DataFrame, captions: _Captions) -> tuple[_Leaks, int, int]:
    """What is found in the captions; cells computed and reused."""
    import pyarrow as pa

    from shared.annotations import AnnotationTable

    about = {"step": NAME, "rule": rule_hash()}
    values = pa.schema([(name, pa.string()) for name in FOUND])
    table = AnnotationTable(context.store, NAME, fingerprint(about), values=values, about=about)
    places: dict[str, list[str]] = {}
    asked: dict[str, dict[str, Any]] = {}
    for identity, question, choices, answer, _ in rows.iter_rows():
        for caption in captions.get(identity, ()):
            key = fingerprint([question, choices, answer, caption])
            places.setdefault(identity, []).append(key)
            asked[key] = {"key": key, "question": question, "choices": choices, "answer": answer, "caption": caption}
    missing = table.missing(asked)
    task = context.progress.task(NAME, total=len(missing))
    batches = (
        pa.Table.from_pylist([asked[key] for key in missing[start : start + _BATCH_ROWS]], schema=_asked_schema())
        for start in range(0, len(missing), _BATCH_ROWS)
    )
    for judged in context.runner.map_batches(judge_batch, batches, task=task):
        table.append_table(judged)
    task.done()
    cells = table.lookup(list(asked))
    nothing = dict.fromkeys(FOUND, "")
    found = {identity: [cells.get(key, nothing) for key in keys] for identity, keys in places.items()}
    return found, len(missing), len(asked) - len(missing)


def _asked_schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    fields = {"key": text, "question": text, "choices": pa.list_(text), "answer": text, "caption": text}
    return pa.schema(list(fields.items()))


def judge_batch(batch: pa.Table) -> pa.Table:
    """Judge a table with `key`, `question`, `choices`, `answer` and `caption`; returns `key` and the value columns."""
    import pyarrow as pa

    from shared.caption_leaks import caption_leak

    judged = []
    for row in batch.to_pylist():
        leak = caption_leak(row["question"], row["choices"] or (), row["answer"], row["caption"] or "")
        judged.append({"key": row["key"], **{name: getattr(leak, name) if leak else "" for name in FOUND}})
    return pa.Table.from_pylist(judged, schema=pa.schema([(name, pa.string()) for name in ("key", *FOUND)]))


def _ask_again(
    context: StepContext, rows: pl.DataFrame, captions: _Captions, leaks: _Leaks
) -> tuple[Asked, list[str], list[dict[str, Any]], _Captions]:
    """Ask for every leaking caption of these rows again: what was asked, the prompts, and the rows' captions now."""
    captioning = Captioning.model_validate(context.recipe["steps"][CAPTIONS_FROM])
    types = dict(context.results["type_images"].annotations.select("image_hash", "image_type").iter_rows())
    languages = {identity: language_of(question, choices) for identity, question, choices, _, _ in rows.iter_rows()}
    hashes = dict(rows.select("id", "image_hashes").iter_rows())
    wanted: dict[tuple[str, str], set[str]] = {}
    for identity, language in languages.items():
        for sha256, leak in zip(hashes[identity], leaks[identity], strict=True):
            if leak["rule"]:
                wanted.setdefault((types[sha256], language), set()).add(sha256)
    kinds = sorted(wanted)
    groups = [Group(_prompt(captioning, context.prompts, *kind), "system") for kind in kinds]
    made = image_tables(
        context,
        CAPTIONS_FROM,
        engine=captioning.engine,
        sampling=captioning.sampling,
        groups=groups,
        values=caption_values(),
    )
    asking = AskingImages(**made, to_value=caption_value)
    asked, cells, warnings = ask_about_images(context, asking, [sorted(wanted[kind]) for kind in kinds])
    new = {
        (sha256, kinds[group][1]): caption
        for sha256, group, caption in readable(cells).select("image_hash", "group", "caption").iter_rows()
    }
    changed = {
        identity: [
            new.get((sha256, language), caption) if leak["rule"] else caption
            for sha256, leak, caption in zip(hashes[identity], leaks[identity], captions[identity], strict=True)
        ]
        for identity, language in languages.items()
    }
    prompts = [
        {"step": NAME, "image_type": kind[0], "name": group.prompt.name, "sha256": group.prompt.sha256}
        for kind, group in zip(kinds, groups, strict=True)
    ]
    return asked, warnings, prompts, changed


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
