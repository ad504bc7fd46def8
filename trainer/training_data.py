"""Dataset version -> the prompt file that OpenRLHF reads.

Input: a dataset version, a phase, a checkpoint's tokenizer. Output: `prompts.jsonl` with one line per prompt in
training order (`prompt`, `label` as JSON, `images` as paths; `response` in a supervised phase), whole steps only.
OpenRLHF keeps the whole file in memory, so it holds paths; pictures lie in `picture_cache` and are decoded when they
are used. What does not train is counted by reason in `PromptFile.left_out`, never truncated and never dropped silently.
The trainer reads datasets only through their manifest and Parquet files: it knows nothing of how they are built.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.answers import label_of
from shared.caches import cache_folder
from shared.code_points import carried_value
from shared.errors import InfiMmrError
from shared.vlm.chat_template import PromptRenderer
from shared.whole_file import write_whole
from trainer.phase import Phase
from trainer.picture_cache import cached_picture
from trainer.prompts import messages
from trainer.row_rates import check_rate_column, draw_order, rate_column, rate_of, rate_reason
from trainer.supervised import check_traces, fit_trace, learnt_response, trace_column

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion
    from shared.dataset_version.manifest import Manifest

COLUMNS = [
    "id",
    "question",
    "answer",
    "answer_kind",
    "choices",
    "images",
    "image_hashes",
    "captions",
    "category",
    "difficulty",
    "extra",
]


@dataclass(frozen=True)
class PromptFile:
    """What was written, and what was left out with the reason."""

    path: str
    rows: int
    """Lines: steps x rows of a step."""
    distinct_rows: int
    """Rows of the dataset that appear."""
    max_images: int
    max_prompt_tokens: int
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    """Id of the first row left out for each reason."""


def check_purpose(manifest: Manifest, phase: Phase) -> None:
    """Refuse what would teach the wrong thing: a benchmark's answers, or captions that tell of other pictures.

    Raises:
        InfiMmrError: the dataset was read by the benchmark reader, or is named as a benchmark and does not say how it
            was read (GSM8K has rows to train on, too); or it holds captions that its build calls unfit and the phase
            puts into its prompts.

    """
    unfit = next((str(model["unfit"]) for model in manifest.models if model.get("unfit")), "")
    if unfit and phase.data.captions and not phase.data.allow_unfit_captions:
        raise InfiMmrError(
            f"phase {phase.name} puts captions into prompts, and of those of {manifest.label} the build says: {unfit}",
            "Build it with a captioner that knows such images, or allow it with --set data.allow_unfit_captions=true",
        )
    from trainer.evaluation.tasks import task_names

    merged = manifest.recipe.get("sources")
    sources = [manifest.recipe.get("source"), *(merged.values() if isinstance(merged, dict) else ())]
    readers = {source["reader"] for source in sources if isinstance(source, dict) and source.get("reader")}
    tested = "benchmark" in readers or (not readers and manifest.name in task_names())
    if tested and not phase.data.allow_test_set:
        raise InfiMmrError(
            f"dataset {manifest.label} is a benchmark, for testing only: a policy trained on it can no longer be "
            "measured by it",
            "Name a training set with --dataset, or allow it with --set data.allow_test_set=true",
        )


def training_split(version: DatasetVersion, phase: Phase) -> DatasetVersion:
    """The version narrowed to the split that trains in the phase.

    Raises:
        InfiMmrError: it has splits and the phase names none, or it has no such split.

    """
    splits = version.manifest.splits
    if phase.data.split not in {"", "all"}:
        return version.of_split(phase.data.split)
    if splits and not phase.data.split:
        raise InfiMmrError(
            f"dataset {version.label} has splits ({', '.join(splits)}); phase {phase.name} does not say which trains",
            f"Name one with --set data.split={next(iter(splits))}, or take every row with --set data.split=all",
        )
    return version


def check_dataset(version: DatasetVersion, phase: Phase) -> None:
    """Refuse a dataset that cannot serve the phase, before anything is started.

    Raises:
        InfiMmrError: it is a benchmark, was built for the other profile, or lacks the captions that the phase needs.

    """
    manifest = version.manifest
    check_purpose(manifest, phase)
    if phase.data.profile_check and manifest.profile != phase.profile_name:
        raise InfiMmrError(
            f"dataset {manifest.label} was built for profile {manifest.profile}, phase {phase.name} runs on profile "
            f"{phase.profile_name}",
            f"Build it with `data-engine build {version.name} --profile {phase.profile_name}`, or allow the mix with "
            "--set data.profile_check=false",
        )
    check_rate_column(version, phase.data)
    if phase.method == "sft":
        check_traces(version, phase)
    if phase.data.captions:
        from shared.dataset_version.iterate import rows_of

        if any(any(row["captions"] or []) for row in rows_of(version.files(), ["captions"])):
            return
        raise InfiMmrError(
            f"dataset {manifest.label} has no captions, which phase {phase.name} puts into its prompts",
            "Name a captioned dataset, e.g. --dataset virl39k-captioned",
        )


def write_prompts(
    version: DatasetVersion, phase: Phase, checkpoint: Path, folder: Path, cache: Path | None = None
) -> PromptFile:
    """Write `prompts.jsonl` (training order, whole steps) and `prompts.json` (the summary) into `folder`.

    Raises:
        InfiMmrError: too few rows are left for one step; the message counts the reasons.

    """
    renderer = PromptRenderer(checkpoint)
    left_out: Counter[str] = Counter()
    examples: dict[str, str] = {}
    lines: list[_Line] = []
    for row in read_rows(version.files(), phase):
        outcome = _prompt_line(row, phase, renderer, cache or cache_folder())
        if isinstance(outcome, str):
            left_out[outcome] += 1
            examples.setdefault(outcome, row["id"])
        else:
            lines.append(outcome)
    order = random.Random(phase.train.seed)
    lines = _shuffled(lines, phase, order)
    if phase.data.max_rows and len(lines) > phase.data.max_rows:
        left_out["max_rows"] += len(lines) - phase.data.max_rows
        lines = lines[: phase.data.max_rows]
    steps = phase.steps(len(lines))
    if not lines or steps < 1:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()) or "the dataset is empty"
        raise InfiMmrError(
            f"phase {phase.name}: {len(lines)} usable rows of {version.manifest.label} make no step of "
            f"{phase.rows_per_step} prompts ({reasons})",
            f"Name a larger dataset or lower {'train' if phase.method == 'sft' else 'rollout'}.batch_size",
        )
    wanted = steps * phase.rows_per_step
    chosen: list[_Line] = []
    while len(chosen) < wanted:  # a further pass over the rows in another order, each row once per pass
        chosen.extend(lines[: wanted - len(chosen)])
        lines = _shuffled(lines, phase, order)
    left_out["rest_of_last_step"] += max(0, len(lines) - wanted)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prompts.jsonl"
    path.write_text("".join(text for text, _, _, _ in chosen), encoding="utf-8")
    summary = PromptFile(
        path=path.name,
        rows=len(chosen),
        distinct_rows=len({text for text, _, _, _ in chosen}),
        max_images=max(images for _, images, _, _ in chosen),
        max_prompt_tokens=max(tokens for _, _, tokens, _ in chosen),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        examples=dict(sorted(examples.items())),
    )
    write_whole(folder / "prompts.json", json.dumps(asdict(summary), indent=1))
    return summary


WHY_LEFT_OUT = {
    "too_long": "longer than rollout.max_length less rollout.max_new_tokens",
    "pictures": "with images, which a text phase leaves out",
    "no_pictures": "without images",
    "no_caption": "with an image that has no caption",
    "pass_rate": "outside data.min_pass_rate to data.max_pass_rate",
    "no_pass_rate": "without a rate in data.pass_rate_column",
    "no_gold": "without an answer",
    "no_trace": "without a trace in data.trace_column",
    "trace_form": "whose trace is not in the form that the reward wants (<think>, then one final answer)",
    "trace_wrong": "whose trace ends in another answer than the gold",
    "trace_too_long": "whose trace is longer than rollout.max_new_tokens",
    "special_token": "with a special token of the policy's tokenizer in their text",
}
"""Reasons for rows left out, in words; those of pictures are `image_` and `shared.images`' own word."""


def reason_text(reason: str) -> str:
    """A reason in words, as in "3 rows without an answer"."""
    return WHY_LEFT_OUT.get(reason) or f"with an image refused as {reason.removeprefix('image_')}"


def left_out_text(summary: PromptFile) -> str:
    """One line on the rows that do not train, by reason, for people; empty where there are none.

    Rows beyond data.max_rows or the last whole step are left out by arithmetic, not for what they are.
    """
    found = {reason: count for reason, count in summary.left_out.items() if reason in summary.examples}
    if not found:
        return ""
    told = "; ".join(
        f"{count} {reason_text(reason)} (first: {summary.examples[reason]})"
        for reason, count in sorted(found.items(), key=lambda pair: -pair[1])
    )
    count = sum(found.values())
    return f"1 row does not train: {told}" if count == 1 else f"{count} rows do not train: {told}"


def read_prompt_file(folder: Path) -> PromptFile:
    """Summary of a prompt file written before, for a resumed run.

    Raises:
        InfiMmrError: the folder has none.

    """
    try:
        return PromptFile(**json.loads((folder / "prompts.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise InfiMmrError(f"run {folder} has no readable prompts.json", "Start it anew in another --output") from error


def _shuffled(lines: list[_Line], phase: Phase, order: random.Random) -> list[_Line]:
    """Lines in the order of one pass."""
    order.shuffle(lines)
    if phase.data.rate_weight == "none":
        return lines
    return [lines[place] for place in draw_order([rate for *_, rate in lines], order)]


def read_rows(
    files: Sequence[Path], phase: Phase, *, pictures: bool = True, more: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of a version with the columns that the phase reads and `more`; without the pictures' bytes where told."""
    from shared.dataset_version.iterate import rows_of

    wanted = [*COLUMNS, *more, rate_column(phase.data), *trace_column(phase)]
    columns = list(dict.fromkeys(name for name in wanted if pictures or name != "images"))
    return rows_of(files, columns)


def unsuited(row: dict[str, Any], phase: Phase) -> str:
    """Why a row does not train in this phase, as one word; empty when it does."""
    pictures = len(row["image_hashes"])
    if (phase.data.images == "none" and pictures) or (phase.data.images == "required" and not pictures):
        return "pictures" if pictures else "no_pictures"
    if phase.data.captions and not all(row["captions"][:pictures] or [None] * pictures):
        return "no_caption"
    if reason := rate_reason(rate_of(row, phase.data), phase.data):
        return reason
    return "" if row["answer"].strip() else "no_gold"


def count_pictured(version: DatasetVersion) -> int:
    """Rows of a version that have images, from the column of their hashes alone."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = (pq.read_table(file, columns=["image_hashes"]) for file in version.files())
    return sum(pc.sum(pc.greater(pc.list_value_length(table[0]), 0)).as_py() or 0 for table in tables)


def count_traces(version: DatasetVersion, phase: Phase) -> Counter[str]:
    """Rows of a version by what becomes of them in the phase: "" trains, else a reason of `WHY_LEFT_OUT`.

    Lengths are not looked at: they need the checkpoint's tokenizer.
    """
    counted: Counter[str] = Counter()
    for row in read_rows(version.files(), phase, pictures=False):
        counted[unsuited(row, phase) or fit_trace(row, phase.data.trace_column, row_label(row, phase))[1]] += 1
    return counted


def row_label(row: dict[str, Any], phase: Phase) -> dict[str, Any]:
    """What the reward is told of a row; a function of the user's own is told more of it."""
    extra = carried_value(json.loads(row["extra"] or "{}"))  # escapes in it may spell half a character
    label = {"id": row["id"], **label_of(row["answer"], row["answer_kind"], row["choices"] or (), extra)}
    more = {name: row[name] for name in ("question", "category")} | {"extra": extra}
    return label | (more if phase.reward.function else {})


def first_label(version: DatasetVersion, phase: Phase) -> dict[str, Any]:
    """Label of the first row that trains; empty where none does."""
    return next((row_label(row, phase) for row in read_rows(version.files(), phase) if not unsuited(row, phase)), {})


def written_label(folder: Path) -> dict[str, Any]:
    """Label of the first line of a run's prompt file."""
    with (folder / "prompts.jsonl").open(encoding="utf-8") as file:
        return dict(json.loads(json.loads(file.readline())["label"]))


_Line = tuple[str, int, int, float | None]
"""JSON line, pictures, prompt tokens, pass rate of a row."""


def _prompt_line(row: dict[str, Any], phase: Phase, renderer: PromptRenderer, cache: Path) -> _Line | str:
    """Line of a row, or the reason why it does not train."""
    if reason := unsuited(row, phase):
        return reason
    from shared.images import ImageRefused

    try:
        pictures = [
            cached_picture(image["bytes"], sha256, cache, phase.data.max_image_pixels)
            for image, sha256 in zip(row["images"], row["image_hashes"], strict=True)
        ]
    except ImageRefused as error:
        return f"image_{error.reason}"
    captions = row["captions"][: len(pictures)] if phase.data.captions else ()
    conversation = messages(phase.prompt, row["question"], len(pictures), captions, prompts=phase.prompts)
    if renderer.special_token(conversation):
        return "special_token"
    text = renderer.text(conversation)
    tokens = renderer.tokens(text, [size for _, size in pictures])
    if tokens > phase.rollout.max_length - phase.rollout.max_new_tokens:
        return "too_long"
    label, answer = row_label(row, phase), {}
    if phase.method == "sft":
        trace, reason = fit_trace(row, phase.data.trace_column, label)
        response = learnt_response(trace, text)
        if not reason and renderer.special_token([{"content": trace}]):
            reason = "special_token"
        if not reason and renderer.tokens(response) >= phase.rollout.max_new_tokens:  # the end of the turn is one more
            reason = "trace_too_long"
        if reason:
            return reason
        answer = {"response": response + renderer.end_of_turn}
    line = {
        "prompt": text,
        **answer,
        "label": json.dumps(label, ensure_ascii=False),
        "images": [str(path) for path, _ in pictures],
        "question": row["question"],
        "image_hashes": row["image_hashes"],
    }
    return json.dumps(line, ensure_ascii=False) + "\n", len(pictures), tokens, rate_of(row, phase.data)
