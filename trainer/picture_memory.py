"""Host memory that the pictures of a training step take, before anything is started.

What travels is what the processor makes of a picture: patches of numbers, once per problem, whatever the number of its
rollouts (`openrlhf_bridge/problem.py`). A rollout actor holds those of its problems until their rollouts have ended,
Ray's shared memory those of the step until it ends. Sizes are those of the dataset's own pictures, of a sample of its
rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from shared.vlm.checkpoint import read_config
from trainer.families import engine_number_bytes
from trainer.phase import Phase

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion

GIB = 1024**3
NUMBER_BYTES = {"bfloat16": 2, "float32": 4}
TYPICAL_TOKENS = 200
"""Of a picture where no dataset is at hand: 3.8 MB in float32, the mean of 3,699 pictures like ViRL39K's."""
SAMPLED_GROUPS, SAMPLED_ROWS = 16, 64
STORE_SHARE = 0.3
"""Of a machine's memory that Ray takes for shared objects by itself; what does not fit is written to disk."""


def picture_memory(
    phase: Phase, engines: int, dtype: str, store: str | None, checkpoint: Path | None
) -> dict[str, Any]:
    """GiB of a step's pictures in numbers of `dtype`, and the `source` of their sizes; empty for a phase of text.

    `step` is all problems of a step once, `actor` one rollout actor with its engine, `shared` Ray's shared memory, of
    all rollout actors together. `checkpoint` is the folder of the processor; without one Qwen2.5-VL's sizes are taken.
    """
    from shared.vlm.chat_template import PromptRenderer, token_numbers

    if phase.data.images == "none":
        return {}
    processor = PromptRenderer(checkpoint).processor if checkpoint is not None else {}
    sent = engine_number_bytes(read_config(checkpoint) if checkpoint is not None else {}, NUMBER_BYTES[dtype])
    per_problem, source = float(TYPICAL_TOKENS), "assumed: images like ViRL39K's"
    version = _local_version(phase, store)
    if version is not None:
        tokens = list(_tokens(version, phase, processor))
        if tokens:
            per_problem, source = fmean(tokens), f"{len(tokens)} rows of {version.label}"
    step = phase.rollout.batch_size * per_problem * token_numbers(processor) * NUMBER_BYTES[dtype] / GIB
    share = -(-phase.rollout.batch_size // engines) / phase.rollout.batch_size
    actor = step * share * (1 + sent / NUMBER_BYTES[dtype])
    return {"step": round(step, 3), "actor": round(actor, 3), "shared": round(step, 3), "source": source}


def plan_pictures(phase: Phase, store: str | None, local: bool) -> tuple[dict[str, Any], list[str]]:
    """For `trainer plan`: `picture_memory`, and what would not fit, with the value to change.

    A local run gives Ray a small store; a run on CUDA leaves the size to Ray, and is warned of where this machine has
    a GPU, because another machine's memory is not known here.
    """
    import psutil

    from shared.vlm.checkpoint import checkpoint_folder, is_folder
    from shared.vlm.spec import EngineSpec
    from trainer.openrlhf_bridge.launch import OBJECT_STORE_BYTES

    engines = 1 if local else phase.cluster.nodes * phase.cluster.gpus_per_node // phase.cluster.tensor_parallel
    folder = checkpoint_folder(EngineSpec(model=phase.model.start)) if is_folder(phase.model.start) else None
    dtype = phase.dtype_on("cpu" if local else "cuda")
    memory = picture_memory(phase, engines, dtype, store, folder)
    if not memory:
        return {}, []
    store_gib = OBJECT_STORE_BYTES / GIB
    if not local:
        here = Path("/proc/driver/nvidia").is_dir()
        store_gib = STORE_SHARE * psutil.virtual_memory().total / GIB if here else float("inf")
    if memory["shared"] <= store_gib:
        return memory, []
    fitting = int(phase.rollout.batch_size * store_gib / memory["shared"])
    warning = (
        f"the images of a step take {memory['shared']:.1f} GiB of Ray's shared memory, {store_gib:.1f} are there, the "
        f"rest goes through the disk: lower data.max_image_pixels, or rollout.batch_size to {max(1, fitting)}"
    )
    return memory, [warning]


def picture_text(memory: dict[str, Any]) -> str:
    """The numbers in one line for people."""
    return (
        f"{memory['step']:.3g} GiB of host memory a step, {memory['actor']:.3g} GiB per rollout actor, "
        f"{memory['shared']:.3g} GiB of Ray's shared memory ({memory['source']})"
    )


def _local_version(phase: Phase, store: str | None) -> DatasetVersion | None:
    """The dataset version where its files lie on this machine: a plan fetches nothing."""
    from shared.dataset_version import open_dataset
    from shared.dataset_version.names import version_folder
    from trainer.training_data import training_split

    with suppress(InfiMmrError):
        version = open_dataset(phase.data.dataset, store)
        if version.store.local_path(version_folder(version.name, version.version)) is not None:
            return training_split(version, phase)
    return None


def _tokens(version: DatasetVersion, phase: Phase, processor: Mapping[str, Any]) -> Iterator[int]:
    """Picture tokens of each sampled row that the phase would ask."""
    from PIL import Image

    from shared.images import reduced_size
    from shared.vlm.chat_template import image_tokens

    for images in _sampled_images(version.files()):
        if phase.data.images == "required" and not images:
            continue
        total = 0
        for image in images:
            with suppress(OSError), Image.open(io.BytesIO(image["bytes"])) as picture:
                width, height = reduced_size(*picture.size, phase.data.max_image_pixels)
                total += image_tokens(height, width, processor)
        yield total


def _sampled_images(files: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    """The `images` of rows from evenly spaced row groups."""
    import pyarrow.parquet as pq

    groups = [(file, number) for file in files for number in range(pq.ParquetFile(file).num_row_groups)]
    step = max(1, len(groups) // SAMPLED_GROUPS)
    for file, number in groups[::step][:SAMPLED_GROUPS]:
        batches = pq.ParquetFile(file).iter_batches(SAMPLED_ROWS, row_groups=[number], columns=["images"])
        for row in next(batches).to_pylist():
            yield row["images"] or []
