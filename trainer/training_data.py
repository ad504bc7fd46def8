"""Dataset version -> the prompt file that OpenRLHF reads, and a cache of pictures.

Input: a dataset version, a phase, a checkpoint's tokenizer. Output: `prompts.jsonl` with one line per prompt in
training order (`prompt`, `label` as JSON, `images` as paths), whole steps only. OpenRLHF keeps the whole file in
memory, so it holds paths; pictures lie in a content-addressed cache and are decoded when they are used.
What does not train is counted by reason in `PromptFile.left_out`, never truncated and never dropped silently. The
trainer reads datasets only through their manifest and Parquet files: it knows nothing of how they are built.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from shared.whole_file import write_whole
from trainer.phase import Phase
from trainer.prompts import PromptRenderer, messages

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion

COLUMNS = [
    "id",
    "question",
    "answer",
    "answer_kind",
    "choices",
    "images",
    "image_hashes",
    "captions",
    "difficulty",
    "extra",
]
LABEL_EXTRAS = ("tolerance", "unit", "precision")
"""Fields of `extra` that the grader understands."""
BATCH_ROWS = 64
PICTURES = "pictures-2"
"""Folder of the cache; its number rises when the same bytes give other pixels (2: key colours lie on white)."""


@dataclass(frozen=True)
class PromptFile:
    """What was written, and what was left out with the reason."""

    path: str
    rows: int
    """Lines: steps x rollout.batch_size."""
    distinct_rows: int
    """Rows of the dataset that appear."""
    max_images: int
    max_prompt_tokens: int
    left_out: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the run record."""
        return asdict(self)


def cache_folder() -> Path:
    """Folder of the picture cache: `$INFI_MMR_CACHE`, else `~/.cache/infi-mmr`. A cluster's machines must share it."""
    return Path(os.environ.get("INFI_MMR_CACHE") or Path.home() / ".cache" / "infi-mmr")


def cached_picture(data: bytes, sha256: str, folder: Path, max_pixels: int) -> tuple[Path, tuple[int, int]]:
    """Path of a picture in the cache and its (height, width), writing it if it is new.

    The bytes are kept as they are when every reader sees the same pixels in them (`decode_and_compare`) and they are
    small enough. Otherwise an RGB PNG of what `shared.images` reads is written, reduced to `max_pixels` (0 keeps the
    size).

    Raises:
        ImageRefused: the bytes are no usable picture.

    """
    from PIL import Image

    for suffix in (".img", ".png"):
        path = folder / PICTURES / sha256[:2] / f"{sha256}-{max_pixels}{suffix}"
        with suppress(OSError), Image.open(path) as kept:
            return path, (kept.height, kept.width)
    kept_bytes, suffix, size = picture_file(data, max_pixels)
    path = folder / PICTURES / sha256[:2] / f"{sha256}-{max_pixels}{suffix}"
    keep_file(path, kept_bytes)
    return path, size


def picture_file(data: bytes, max_pixels: int) -> tuple[bytes, str, tuple[int, int]]:
    """Bytes of a picture as training reads it, their suffix (`.img` for the original's), and (height, width).

    Raises:
        ImageRefused: the bytes are no usable picture.

    """
    from shared.images import decode_and_compare, reduced

    picture, alike = decode_and_compare(data)
    small = reduced(picture, max_pixels)
    size = (small.height, small.width)
    if alike and small is picture:
        return data, ".img", size
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return buffer.getvalue(), ".png", size


def keep_file(path: Path, content: bytes) -> None:
    """Write a file of the cache whole or not at all; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def check_dataset(version: DatasetVersion, phase: Phase) -> None:
    """Refuse a dataset that cannot serve the phase, before anything is started.

    Raises:
        InfiMmrError: it was built for the other profile, or the phase needs captions and it has none.

    """
    manifest = version.manifest
    if phase.data.profile_check and manifest.profile != phase.profile_name:
        raise InfiMmrError(
            f"dataset {manifest.label} was built for profile {manifest.profile}, phase {phase.name} runs on profile "
            f"{phase.profile_name}",
            f"build it with `data-engine build {version.name} --profile {phase.profile_name}`, or allow the mix with "
            "--set data.profile_check=false",
        )
    if phase.data.captions:
        import pyarrow.parquet as pq

        for file in version.files():
            column = pq.read_table(file, columns=["captions"])["captions"].to_pylist()
            if any(any(captions or []) for captions in column):
                return
        raise InfiMmrError(
            f"dataset {manifest.label} has no captions, which phase {phase.name} puts into its prompts",
            "name a captioned dataset, e.g. --dataset virl39k-captioned",
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
    lines: list[tuple[str, int, int]] = []
    for row in _rows(version.files()):
        outcome = _prompt_line(row, phase, renderer, cache or cache_folder())
        if isinstance(outcome, str):
            left_out[outcome] += 1
        else:
            lines.append(outcome)
    order = random.Random(phase.train.seed)
    order.shuffle(lines)
    if phase.data.max_rows and len(lines) > phase.data.max_rows:
        left_out["max_rows"] += len(lines) - phase.data.max_rows
        lines = lines[: phase.data.max_rows]
    steps = phase.steps(len(lines))
    if not lines or steps < 1:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()) or "the dataset is empty"
        raise InfiMmrError(
            f"phase {phase.name}: {len(lines)} usable rows of {version.manifest.label} make no step of "
            f"{phase.rollout.batch_size} prompts ({reasons})",
            "name a larger dataset or lower rollout.batch_size",
        )
    wanted = steps * phase.rollout.batch_size
    chosen: list[tuple[str, int, int]] = []
    while len(chosen) < wanted:  # a further pass over the rows in another order, each row once per pass
        chosen.extend(lines[: wanted - len(chosen)])
        order.shuffle(lines)
    left_out["rest_of_last_step"] += max(0, len(lines) - wanted)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prompts.jsonl"
    path.write_text("".join(text for text, _, _ in chosen), encoding="utf-8")
    summary = PromptFile(
        path=path.name,
        rows=len(chosen),
        distinct_rows=len({text for text, _, _ in chosen}),
        max_images=max(images for _, images, _ in chosen),
        max_prompt_tokens=max(tokens for _, _, tokens in chosen),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )
    write_whole(folder / "prompts.json", json.dumps(summary.to_json(), indent=1))
    return summary


def read_prompt_file(folder: Path) -> PromptFile:
    """Summary of a prompt file written before, for a resumed run.

    Raises:
        InfiMmrError: the folder has none.

    """
    try:
        return PromptFile(**json.loads((folder / "prompts.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise InfiMmrError(f"run {folder} has no readable prompts.json", "start it anew in another --output") from error


def _rows(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=COLUMNS):
            yield from batch.to_pylist()


def _unsuited(row: dict[str, Any], phase: Phase) -> str:
    """Why a row does not train in this phase, as one word; empty when it does."""
    pictures = len(row["images"])
    if (phase.data.images == "none" and pictures) or (phase.data.images == "required" and not pictures):
        return "pictures" if pictures else "no_pictures"
    if phase.data.captions and not all(row["captions"][:pictures] or [None] * pictures):
        return "no_caption"
    rate = (row["difficulty"] or {}).get("pass_rate_large")
    if rate is not None and not phase.data.min_pass_rate <= rate <= phase.data.max_pass_rate:
        return "pass_rate"
    if not row["answer"].strip():
        return "no_gold"
    return ""


def _prompt_line(
    row: dict[str, Any], phase: Phase, renderer: PromptRenderer, cache: Path
) -> tuple[str, int, int] | str:
    """(JSON line, pictures, prompt tokens) of a row, or the reason why it does not train."""
    reason = _unsuited(row, phase)
    if reason:
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
    conversation = messages(phase.prompt, row["question"], len(pictures), captions)
    if renderer.special_token(conversation):
        return "special_token"
    text = renderer.text(conversation)
    tokens = renderer.tokens(text, [size for _, size in pictures])
    if tokens > phase.rollout.max_length - phase.rollout.max_new_tokens:
        return "too_long"
    label: dict[str, Any] = {"id": row["id"], "gold": row["answer"], "kind": row["answer_kind"]}
    if row["choices"]:
        label["choices"] = row["choices"]
    extra = json.loads(row["extra"]) if row["extra"] else {}
    label |= {name: extra[name] for name in LABEL_EXTRAS if extra.get(name) is not None}
    line = {
        "prompt": text,
        "label": json.dumps(label, ensure_ascii=False),
        "images": [str(path) for path, _ in pictures],
        "question": row["question"],
        "image_hashes": row["image_hashes"],
    }
    return json.dumps(line, ensure_ascii=False) + "\n", len(pictures), tokens
