"""What of an engine can change an answer, and so belongs into content keys.

The checkpoint (by the hash of its files, or hub id and revision), number type, pixel limits, context length. Where it
runs, how many asks are in flight and how long a request may take are places and hardware, and are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.vlm.checkpoint import checkpoint_identity, engine_version, is_folder

if TYPE_CHECKING:
    from shared.vlm.spec import EngineSpec

ASKING_REVISIONS = {"generate": 1, "pooling": 1}
"""Part of what identifies answers and vectors from 2 on. Raise one by hand where this project's own code changes what a
model is shown or how its answer is read (the picture's decoding, the conversation, the resize, the pooled token): cells
and evaluation answers are then asked anew. A change that moves no answer raises nothing; `maker` tells cells apart."""


def engine_identity(spec: EngineSpec) -> dict[str, Any]:
    """The values that can change an answer, for content keys: equal wherever the same checkpoint runs.

    A folder counts by the hash of its files, a hub id by its revision, an endpoint by the model name it serves.

    Raises:
        InfiMmrError: the folder is missing or has no safetensors.
    """
    values: dict[str, Any] = {"checkpoint": checkpoint_identity(spec), "runner": spec.runner}
    values |= {"dtype": spec.dtype, "min_pixels": spec.min_pixels, "max_pixels": spec.max_pixels}
    values |= {"max_model_len": spec.max_model_len, "pooling": spec.pooling}
    revision = ASKING_REVISIONS[spec.runner]
    return values if revision == 1 else values | {"asking": revision}


def engine_record(spec: EngineSpec) -> dict[str, Any]:
    """`engine_identity` with the model's name and the engine's version, for manifests."""
    engine = "endpoint" if spec.endpoint else engine_version(spec.runner)
    return {"model": spec.model.rsplit("/", 1)[-1], "revision": spec.revision, "engine": engine} | engine_identity(spec)


def without_hub_revision(spec: EngineSpec) -> EngineSpec:
    """`spec` without the hub's revision where its model is a folder: a profile that names another model keeps the rest.

    With remote code it stays: it says whose code was read.
    """
    if spec.revision is None or spec.trust_remote_code or spec.endpoint or not is_folder(spec.model):
        return spec
    return spec.model_copy(update={"revision": None})
