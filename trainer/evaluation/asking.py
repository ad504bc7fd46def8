"""Asks a checkpoint the items of a task: prompts, sampling, stored answers, and what to do when an ask fails.

Input: checkpoint, task, items, `Settings`. Output: an answer per item and sample, in order, and the record of how they
were drawn. Only what the store does not know is asked; the engine is started at the first such ask.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from shared.config import Strict
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.hub_download import spoken_name
from shared.placeholders import harmless_question
from shared.progress import Progress
from shared.safetensors_files import headers
from shared.vlm.checkpoint import engine_identity, engine_record, without_hub_revision
from shared.vlm.spec import Answer, EngineSpec, Sampling, Temperature
from trainer.evaluation.cache import AnswerCache, StoredAnswer, answer_key

if TYPE_CHECKING:
    from shared.benchmark import Item
    from trainer.evaluation.task import Task

LONGEST_CONTEXT = 8192
"""Tokens of prompt and answer where the checkpoint allows more: every benchmark's prompt with 4,096 tokens to think."""


class Settings(Strict):
    """How a checkpoint is asked."""

    samples: int = Field(
        default=1, ge=1, description="Answers drawn per item for avg@k and pass@k; 1 asks greedily only."
    )
    temperature: Temperature = Field(
        default=1.0, gt=0, description="Of the drawn answers, 0.01 to 2; the headline is always greedy."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus of the drawn answers; 1 switches it off.")
    seed: int = Field(default=0, description="Sample number k is drawn with seed + k.")
    max_tokens: int = Field(default=2048, gt=0, description="Maximum tokens per answer; at most half of the context.")
    max_model_len: int | None = Field(
        None, gt=0, description="Tokens of prompt and answer; None: the checkpoint's, to 8192."
    )
    max_pixels: int | None = Field(None, gt=0, description="Pixels to which images are reduced; None: the processor's.")
    limit: int | None = Field(default=None, gt=0, description="First items only, per benchmark; None: all.")
    batch_size: int = Field(default=64, gt=0, description="Requests per call; each call's answers are stored at once.")
    system_prompt: str = Field(default="reason_system", description="A prompt of the set by name, or a text file.")
    prompts: str = Field(
        default="",
        description="Prompt set: full, bundled, or a folder; empty: tiny-vl's and its descendants' own, else full.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Number type; auto: the checkpoint's own, float32 on a CPU without bfloat16.",
    )
    revision: str | None = Field(default=None, description="Commit of a hub checkpoint.")
    endpoint: str | None = Field(
        default=None, description="OpenAI-compatible server that serves the checkpoint's name."
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers in order of items, greedy first, and the records for the result."""

    answers: list[tuple[Item, int, StoredAnswer]]
    engine: dict[str, Any]
    record: dict[str, Any]


@dataclass(slots=True)
class _Ask:
    item: Item
    sample: int
    text: str
    sampling: Sampling
    key: str


def ask_items(
    checkpoint: str,
    task: Task,
    items: Sequence[Item],
    settings: Settings,
    *,
    store: str | None,
    progress: Progress,
) -> Asked:
    """Answers of `checkpoint` to every item: from the store where known, else asked and stored.

    Raises:
        InfiMmrError: the checkpoint lacks files, or its engine does not start.

    """
    from shared.annotations import set_aside
    from shared.prompts import SETS, load_prompt
    from shared.store import default_store_url, open_store
    from shared.vlm.checkpoint import maker, prompt_set_for

    spec, reads_images = engine_spec(checkpoint, items, settings)
    cache = AnswerCache(open_store(default_store_url(store)), engine_identity(spec), maker(spec))
    prompts = settings.prompts or prompt_set_for(checkpoint)
    system = load_prompt(settings.system_prompt, prompts).text
    asks = _asks(task, items, settings, spec, system, prompts)
    answers = cache.find([ask.key for ask in asks])
    stored = len(answers)
    for sentence in set_aside():
        progress.say(sentence)
    elsewhere = cache.made_elsewhere([ask.key for ask in asks])
    for ask in asks:
        if ask.key not in answers and (failure := _unaskable(ask.item, reads_images=reads_images)):
            answers[ask.key] = StoredAnswer("", 0, 0, truncated=False, failure=failure)
    waiting = {ask.key: ask for ask in asks if ask.key not in answers}
    pending = list(waiting.values())
    told = progress.task(task.name, len(pending), unit="answers", known=stored)
    if pending:
        _start_engine(spec, told.waits)
    for start in range(0, len(pending), settings.batch_size):
        batch = pending[start : start + settings.batch_size]
        fresh = dict(zip([ask.key for ask in batch], _ask_batch(spec, system, batch), strict=True))
        cache.keep(fresh)
        answers |= fresh
        told.advance(len(fresh), tokens=sum(answer.tokens for answer in fresh.values()))
    told.done()
    record = {
        "prompts": prompts if prompts in SETS else Path(prompts).name,
        "system_prompt": settings.system_prompt,
        "system_prompt_sha256": bytes_hash(system.encode()),
        "max_tokens": most_tokens(settings, spec),
        "max_pixels": settings.max_pixels,
        "seed": settings.seed,
        "limit": settings.limit,
        "samples": settings.samples,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "asked": len(pending),
        "from_store": stored,
        "made_elsewhere": elsewhere,
    }
    return Asked([(ask.item, ask.sample, answers[ask.key]) for ask in asks], engine_record(spec), record)


def _asks(  # noqa: PLR0917 - what `ask_items` resolved, once
    task: Task, items: Sequence[Item], settings: Settings, spec: EngineSpec, system: str, prompts: str
) -> list[_Ask]:
    from shared.prompts import render

    sampled = samplings(settings, spec, settings.samples if settings.samples > 1 else 0)
    asks: list[_Ask] = []
    for item in items:
        text = render("question", prompts, question=harmless_question(task.question(item)))
        hashes = [bytes_hash(image) for image in item.images]
        for sample, sampling in enumerate(sampled):
            key = answer_key(system, text, hashes, sampling.model_dump(mode="json"))
            asks.append(_Ask(item, sample, text, sampling, key))
    return asks


def _unaskable(item: Item, *, reads_images: bool) -> str:
    """Why an item need not be asked at all; empty where it should be."""
    if item.problem:
        return item.problem
    if item.missing_images:
        return "image_missing"
    return "checkpoint_reads_no_images" if item.images and not reads_images else ""


def _start_engine(spec: EngineSpec, waits: Callable[[str], None]) -> None:
    """Start the engine, and say that it is waited for. One that dies at once is met again, and told, by the asks."""
    from shared.vlm import start_engine
    from shared.vlm.failures import EngineDiedError, EngineOutOfMemoryError

    waits(f"starting {spec.model.rstrip('/').rsplit('/', 1)[-1]}")
    with contextlib.suppress(EngineDiedError, EngineOutOfMemoryError):
        start_engine(spec)
    waits("")


def _ask_batch(spec: EngineSpec, system: str, batch: Sequence[_Ask]) -> list[StoredAnswer]:
    """Answers of one batch. An engine that dies is started again on halves until the deadly ask is alone."""
    from shared.vlm import build_conversation, close_engines, open_engine
    from shared.vlm.failures import BatchFailedError, EngineDiedError, EngineOutOfMemoryError, in_halves

    def answers(some: Sequence[_Ask]) -> list[StoredAnswer]:
        try:
            with open_engine(spec) as engine:
                conversations = [build_conversation(system, ask.text, ask.item.images) for ask in some]
                return [_stored(reply) for reply in engine.chat(conversations, [ask.sampling for ask in some])]
        except (EngineDiedError, EngineOutOfMemoryError) as error:
            close_engines()
            raise BatchFailedError(f"engine_failed:{type(error).__name__}") from error

    return in_halves(batch, answers, lambda _, why: StoredAnswer("", 0, 0, truncated=False, failure=why))


def _stored(reply: Answer) -> StoredAnswer:
    failure = f"refused: {reply.refused}" if reply.refused else ""
    return StoredAnswer(reply.text, reply.tokens, reply.prompt_tokens, reply.finish_reason == "length", failure)


def most_tokens(settings: Settings, spec: EngineSpec) -> int:
    """Most tokens of one answer: as set, and at most half of the context."""
    return min(settings.max_tokens, spec.max_model_len // 2)


def samplings(settings: Settings, spec: EngineSpec, drawn: int) -> list[Sampling]:
    """How answers are sampled: one greedily, then as many as are `drawn`, each with a seed of its own."""
    from shared.vlm.spec import Sampling

    greedy = Sampling.model_validate({"max_tokens": most_tokens(settings, spec)})
    told = {"temperature": settings.temperature, "top_p": settings.top_p}
    seeds = range(settings.seed + 1, settings.seed + drawn + 1)
    return [greedy, *(greedy.model_copy(update={**told, "seed": seed}) for seed in seeds)]


def engine_spec(checkpoint: str, items: Sequence[Item], settings: Settings) -> tuple[EngineSpec, bool]:
    """Spec of the engine, and whether the checkpoint reads pictures (a hub id or an endpoint is taken to).

    Raises:
        InfiMmrError: a folder without config, tokenizer or processor files.

    """
    from shared.vlm.checkpoint import checkpoint_folder, is_folder
    from shared.vlm.spec import EngineSpec
    from shared.vlm.surroundings import number_type

    longest, reads_images, config = LONGEST_CONTEXT, True, None
    if settings.endpoint is None and is_folder(checkpoint):
        folder = checkpoint_folder(EngineSpec.model_validate({"model": checkpoint}))
        config = check_checkpoint(folder)
        reads_images = "vision_config" in config
        text = config.get("text_config")
        allowed = config.get("max_position_embeddings") or (text or {}).get("max_position_embeddings")
        longest = min(longest, int(allowed or longest))
    spec = EngineSpec.model_validate(
        {
            "model": checkpoint,
            "revision": settings.revision,
            "dtype": settings.dtype if settings.endpoint else number_type(settings.dtype, config),
            "max_pixels": settings.max_pixels,
            "max_model_len": settings.max_model_len or longest,
            "max_images": max((len(item.images) for item in items), default=0) or 1,
            "batch_size": settings.batch_size,
            "endpoint": settings.endpoint,
        }
    )
    return without_hub_revision(spec), reads_images


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """The checkpoint's configuration, once the files that asking needs are there.

    Raises:
        InfiMmrError: names the first missing or damaged file and what to do.

    """
    from shared.vlm.checkpoint import read_config

    config = read_config(folder)
    if not config.get("model_type"):
        raise InfiMmrError(f"{spoken_name(folder)}/config.json names no model_type", "Name another checkpoint")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        message = f"checkpoint {spoken_name(folder)} has no tokenizer files"
        raise InfiMmrError(message, "Save the tokenizer beside the weights (AutoProcessor.save_pretrained)")
    processor = ("preprocessor_config.json", "processor_config.json")
    if "vision_config" in config and not any((folder / name).is_file() for name in processor):
        message = f"checkpoint {spoken_name(folder)} reads images but has no {processor[0]}"
        raise InfiMmrError(message, "Copy the processor files of the model it was trained from beside the weights")
    # An engine would tell of a damaged file after half a minute, at length.
    for file in sorted({*folder.glob("*config.json"), *folder.glob("tokenizer*.json"), *folder.glob("vocab.json")}):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            message = f"{spoken_name(folder)}/{file.name} cannot be read ({type(error).__name__})"
            raise InfiMmrError(message, "Fetch or save it again") from error
    headers(folder)
    return config
