"""One problem on its rollout actor: read and processed once, asked many times.

OpenRLHF's executor is called once per sample, and by itself reads, resizes and keeps the problem's pictures each time.
All samples of a problem come from one call with the same objects, so they find each other here. Their pictures are
processed once, in a thread beside the event loop; the engine is given that very result (it would process them again),
and every sample's answer refers to the same tensors in Ray's shared memory (`shared_pictures.py`).

In: prompt text, pictures and processor as OpenRLHF hands them over. Out: token ids, tensors for training, vLLM's final
outputs. Nothing outlives the last sample of a problem.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from trainer.openrlhf_bridge.shared_pictures import share
from trainer.openrlhf_bridge.step_profile import StepProfile

FORBIDDEN = -100.0
"""Logit bias that vLLM documents as a ban."""
PAD_TOKENS = ("image_token_id", "video_token_id")
READERS = 4
"""Threads that read pictures: enough to keep ahead of an engine that takes problems one after another."""


@dataclass(frozen=True)
class Request:
    """What one sample is, as OpenRLHF hands it to its executor: the same objects for all samples of a problem."""

    prompt: str
    pictures: Any
    """Paths, or anything else that OpenRLHF reads as pictures; None or empty without."""
    processor: Any
    """The policy's processor, or the tokenizer of a model without pictures."""
    sampling: Any
    """vLLM's `SamplingParams`."""
    max_length: int
    """Tokens of prompt and answer together."""


@dataclass(frozen=True)
class Read:
    """A problem as its samples share it."""

    token_ids: list[int]
    """The prompt; a picture's tokens are expanded."""
    tensors: Mapping[str, Any] | None
    """What the processor made of the pictures, for the policy and the reference: `pixel_values` (patches, values),
    `image_grid_thw` (pictures, 3)."""
    sent: Any
    """vLLM's input with the pictures."""
    named: Any
    """vLLM's input that names pictures which the engine was sent before."""
    parameters: Any
    """How vLLM is asked."""
    seconds: float
    """Processor time of reading and processing."""


def read_problem(request: Request, renderer: Any, dtype: str = "float32") -> Read:
    """Tokenize a prompt and process its pictures, by OpenRLHF's own functions; `renderer` is the engine's.

    Pixels for the policy are numbers of `dtype`. In that of its weights they change nothing: a Qwen2.5-VL rounds pixels
    to the type of its vision tower before anything else.

    Raises:
        ValueError: no picture of a prompt with pictures can be read, or the prompt with its pictures is too long.

    """
    started = time.thread_time()
    tensors, raw, processor = None, None, request.processor
    if request.pictures and hasattr(processor, "image_processor"):
        from openrlhf.utils.vlm_utils import process_prompt_with_images

        bytes_only = partial(processor, do_rescale=False, do_normalize=False)
        token_ids, raw, _ = process_prompt_with_images(bytes_only, request.prompt, request.pictures)
        tensors = normalised(raw, processor.image_processor)
    else:
        encoded = processor(text=request.prompt, add_special_tokens=False, return_tensors="pt")
        token_ids = encoded["input_ids"][0].tolist()
    parameters = final_parameters(request.sampling, processor, request.max_length - len(token_ids))
    room = request.max_length - parameters.max_tokens
    if len(token_ids) > room:
        if raw is not None:
            message = (
                f"a prompt with images has {len(token_ids)} tokens and {room} fit: its images cannot be cut. Raise "
                "rollout.max_length or lower rollout.max_new_tokens"
            )
            raise ValueError(message)
        token_ids = token_ids[-room:]  # as OpenRLHF's executor has it
    sent, named = engine_inputs(renderer, processor, token_ids, raw, tensors)
    if tensors is not None:
        import torch

        tensors["pixel_values"] = tensors["pixel_values"].to(getattr(torch, dtype))
    return Read(token_ids, tensors and share(tensors), sent, named, parameters, time.thread_time() - started)


def normalised(raw: Mapping[str, Any], image_processor: Any) -> dict[str, Any]:
    """Bytes of patches -> the floats that the processor itself would have made of them, to the last bit.

    `raw["pixel_values"]`: uint8 (patches, channels x frames x side x side).
    """
    patches = raw["pixel_values"]
    channels = len(image_processor.image_mean)
    floats = image_processor.rescale_and_normalize(
        patches.view(len(patches), channels, -1, image_processor.patch_size),
        image_processor.do_rescale,
        image_processor.rescale_factor,
        image_processor.do_normalize,
        image_processor.image_mean,
        image_processor.image_std,
    )
    return {**raw, "pixel_values": floats.view(len(patches), -1)}


def picture_hashes(raw: Mapping[str, Any]) -> list[str]:
    """Each picture's grid and the sha256 of its patches."""
    grids = raw["image_grid_thw"]
    pictures = raw["pixel_values"].split(grids.prod(-1).tolist())
    return [
        "x".join(str(side) for side in grid) + hashlib.sha256(patches.contiguous().numpy()).hexdigest()
        for patches, grid in zip(pictures, grids.tolist(), strict=True)
    ]


def placeholder_ranges(token_ids: list[int], image_token: int, lengths: list[int]) -> list[tuple[int, int]]:
    """(offset, length) of each picture's tokens in a prompt.

    Raises:
        ValueError: the prompt does not hold the tokens of these pictures.

    """
    ranges, position = [], 0
    for length in lengths:
        start = token_ids.index(image_token, position)
        position = start + length
        if token_ids[start:position] != [image_token] * length:
            message = f"an image of {length} tokens has other tokens at {start} of its prompt"
            raise ValueError(message)
        ranges.append((start, length))
    if image_token in token_ids[position:]:
        message = f"a prompt has more image tokens than its {len(lengths)} images"
        raise ValueError(message)
    return ranges


def engine_inputs(
    renderer: Any,
    processor: Any,
    token_ids: list[int],
    raw: Mapping[str, Any] | None,
    tensors: Mapping[str, Any] | None,
) -> tuple[Any, Any]:
    """A prompt in the form that vLLM's own renderer gives it, made of what `processor` has made already.

    `raw` holds the pictures' bytes, `tensors` their floats: vLLM takes bytes where its vision tower normalises. vLLM's
    own processor is not asked: it would be loaded for that, once in each of the threads that come first.

    Returns it with its pictures, and with their hashes alone for an engine that keeps what it was sent.
    """
    from vllm.inputs.engine import mm_input, tokens_input

    if raw is None or tensors is None:
        text = tokens_input(token_ids)
        return text, text
    from transformers.feature_extraction_utils import BatchFeature
    from vllm.multimodal.cache import MultiModalProcessorSenderCache
    from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange

    lengths = (raw["image_grid_thw"].prod(-1) // processor.image_processor.merge_size**2).tolist()
    ranges = placeholder_ranges(token_ids, processor.image_token_id, lengths)
    engine = renderer.get_mm_processor()
    given = raw if engine.info.ctx.get_mm_config().mm_device_do_normalize else tensors
    features = BatchFeature(engine.info.ctx._postprocess_output(dict(given)))  # noqa: SLF001 - the engine's dtype
    fields = engine._get_mm_fields_config(features, {})  # noqa: SLF001 - which tensor belongs to which picture
    hashes = picture_hashes(raw)

    def with_items(items: Any) -> Any:
        return mm_input(
            prompt_token_ids=token_ids,
            mm_kwargs=items,
            mm_hashes={"image": hashes},
            mm_placeholders={"image": [PlaceholderRange(offset=start, length=length) for start, length in ranges]},
        )

    sent = with_items(MultiModalKwargsItems.from_hf_inputs(features, fields))
    kept = isinstance(renderer.mm_processor_cache, MultiModalProcessorSenderCache)
    return sent, with_items({"image": [None] * len(lengths)}) if kept else sent


def final_parameters(sampling_params: Any, processor: Any, room: int) -> Any:
    """OpenRLHF's sampling parameters, less what nobody looks at.

    Only the last output of a rollout is read, so vLLM need not build one per token, nor text of it. Pad tokens of
    pictures and videos cannot be sampled. `room` is the number of tokens that fit, where none is asked for.
    """
    from vllm.sampling_params import RequestOutputKind

    parameters = deepcopy(sampling_params)
    parameters.output_kind = RequestOutputKind.FINAL_ONLY
    parameters.detokenize = False
    if parameters.logprobs is not None:
        parameters.logprobs = 0  # that of the sampled token alone
        parameters.flat_logprobs = True
    if parameters.max_tokens is None:
        parameters.max_tokens = max(1, room)
    banned = {getattr(processor, name, None) for name in PAD_TOKENS} - {None}
    if banned:
        parameters.logit_bias = {**(parameters.logit_bias or {}), **dict.fromkeys(banned, FORBIDDEN)}
    return parameters


@dataclass
class Problem:
    """One problem while its samples are under way."""

    reading: asyncio.Future[Read]
    samples: int = 0
    """Samples that have not ended."""
    sent: bool = False
    """Whether the engine was sent its pictures."""
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The request that carries the pictures goes before those that name them."""

    async def read(self) -> Read:
        """The problem, once it is read."""
        return await asyncio.shield(self.reading)

    async def ask(self, llm: Any, profile: StepProfile) -> Any:
        """One sample's final output of the engine `llm` (vLLM's `AsyncLLM`)."""
        read = await self.read()
        with profile.asking():
            async with self.order:
                asked = read.named if self.sent else read.sent
                queue = await llm.add_request(uuid4().hex, asked, read.parameters)
                self.sent = True
            output = await _final(llm, queue)
            if output.outputs[0].finish_reason == "error" and asked is not read.sent:
                # the engine has dropped the pictures in between: its cache was too small for all that are under way
                output = await _final(llm, await llm.add_request(uuid4().hex, read.sent, read.parameters))
        return output.outputs[0]


async def _final(llm: Any, queue: Any) -> Any:
    """The one output of a request; a sample that is cancelled takes its request with it."""
    try:
        return queue.get_nowait() or await queue.get()
    except asyncio.CancelledError:
        await llm.abort(queue.request_id, internal=True)
        raise
    finally:
        queue.close()


class Problems:
    """Problems under way on one actor."""

    def __init__(self, dtype: str = "float32") -> None:
        self._dtype = dtype
        self._open: dict[tuple[int, int, int], Problem] = {}
        self._readers = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1), thread_name_prefix="pictures")

    def __len__(self) -> int:
        """Problems whose samples have not all ended."""
        return len(self._open)

    @asynccontextmanager
    async def sample(self, request: Request, renderer: Any, profile: StepProfile) -> AsyncIterator[Problem]:
        """The problem of one sample; what reading it takes is counted in `profile`."""
        # OpenRLHF makes these three objects anew for every problem and its samples hold them until they end, so their
        # ids tell problems apart; equal texts with equal pictures may well be two problems.
        key = (id(request.sampling), id(request.prompt), id(request.pictures))
        problem = self._open.get(key)
        if problem is None:
            loop = asyncio.get_running_loop()
            problem = Problem(loop.run_in_executor(self._readers, read_problem, request, renderer, self._dtype))
            self._open[key] = problem
        problem.samples += 1
        try:
            yield problem
        finally:
            problem.samples -= 1
            if not problem.samples:
                del self._open[key]
                if problem.reading.done() and not problem.reading.exception():
                    profile.pictures += problem.reading.result().seconds
