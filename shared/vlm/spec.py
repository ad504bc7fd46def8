"""What names an engine, what is asked of it and what it answers: values only, no heavy import, no look at a disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import AfterValidator, Field, model_validator

from shared.config import Strict

if TYPE_CHECKING:
    import numpy as np

    from shared.vlm.conversation import Conversation

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""What vLLM samples at: it refuses more, and raises any positive value below to the least without being asked."""


def checked_temperature(value: float) -> float:
    """Return a temperature that an engine takes as it is stated: 0 (greedy), or 0.01 to 2.

    Raises:
        ValueError: vLLM would refuse it, or sample at another one than the log-probabilities are divided by.
    """
    if value and not LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE:
        message = (
            f"vLLM samples at temperatures from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g}: it refuses more, and "
            "takes any positive value below for the least"
        )
        raise ValueError(message)
    return value


Temperature = Annotated[float, AfterValidator(checked_temperature)]
BUNDLED = "tiny-vl"
"""Model name that stands for the checkpoint shipped in `shared/laptop/assets/tiny-vl`."""


class EngineSpec(Strict):
    """One checkpoint and the way it is driven."""

    model: str = Field(description=f"Hub id, folder, or '{BUNDLED}' for the bundled checkpoint.")
    revision: str | None = Field(
        default=None, description="Commit on the hub (a branch may move); None for its main branch, or for a folder."
    )
    runner: Literal["generate", "pooling"] = Field(default="generate", description="Whether it writes text or embeds.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number type of weights and activations; 'auto' takes the checkpoint's own."
    )
    min_pixels: int | None = Field(
        default=None, description="Pixels to which smaller images are enlarged; None: the processor's."
    )
    max_pixels: int | None = Field(
        default=None, description="Pixels to which larger images are reduced; None: the processor's."
    )
    max_model_len: int = Field(default=4096, gt=0, description="Tokens of prompt and answer together.")
    max_images: int = Field(default=1, gt=0, description="Images that one prompt may hold.")
    trust_remote_code: bool = Field(
        default=False, description="Run the checkpoint's own code; only with a pinned revision."
    )
    pooling: Literal["model", "gme"] = Field(
        default="model",
        description="Embedding: positions and resize as the architecture has them, or 'gme': positions 0, 1, 2... and "
        "two resizes, as GME's reference code does.",
    )
    batch_size: int = Field(
        default=64, gt=0, description="Requests per call; halved when the engine runs out of memory."
    )
    tensor_parallel_size: int = Field(default=1, gt=0, description="GPUs per engine.")
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="Share of a GPU's memory the engine may take."
    )
    endpoint: str | None = Field(
        default=None, description="URL of an OpenAI-compatible server, e.g. http://host:8000/v1."
    )
    api_key_env: str = Field(default="INFI_MMR_API_KEY", description="Environment variable holding the endpoint's key.")
    concurrency: int = Field(default=32, gt=0, description="Requests in flight at an endpoint.")
    timeout_seconds: float = Field(default=120.0, gt=0, description="Time limit of one request to an endpoint.")
    attempts: int = Field(
        default=5, gt=0, description="Tries per request to an endpoint, with growing pauses between them."
    )

    @model_validator(mode="after")
    def _remote_code_needs_a_revision(self) -> EngineSpec:
        if self.trust_remote_code and self.revision is None:
            message = f"trust_remote_code of {self.model} needs revision: name the exact commit whose code may run"
            raise ValueError(message)
        return self


class Sampling(Strict):
    """How an answer is drawn. The default is greedy."""

    max_tokens: int = Field(default=256, gt=0, description="Maximum tokens per answer.")
    temperature: Temperature = Field(default=0.0, ge=0, description="0 is greedy, else 0.01 to 2.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1 switches it off.")
    top_k: int = Field(default=0, ge=0, description="Most likely tokens considered; 0 switches it off.")
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="Above 1 makes repetition less likely; 1 switches it off."
    )
    seed: int | None = Field(default=None, description="Seed of this answer; None for greedy.")
    choice: tuple[str, ...] = Field(
        default=(), description="Answers allowed (structured outputs); empty allows any text."
    )
    banned_tokens: tuple[str, ...] = Field(
        default=(), description="Special tokens never sampled, e.g. '<|image_pad|>'."
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model.

    Attributes:
        text: The answer, without special tokens.
        tokens: Tokens of the answer (0 where an endpoint does not tell).
        prompt_tokens: Tokens of the prompt, image tokens included (0 where an endpoint does not tell).
        finish_reason: `stop`, `length` where `max_tokens` cut it, `refused` where it could not be asked.
        refused: Why this one ask could not be answered (image refused, prompt too long); empty otherwise.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish_reason: str
    refused: str = ""

    @classmethod
    def refusal(cls, reason: str) -> Answer:
        """Answer of an ask that could not be asked."""
        return cls(text="", tokens=0, prompt_tokens=0, finish_reason="refused", refused=" ".join(reason.split())[:500])


class VisionLanguageEngine(Protocol):
    """A started engine."""

    spec: EngineSpec

    def chat(self, conversations: Sequence[Conversation], sampling: Sampling | Sequence[Sampling]) -> list[Answer]:
        """Answer each conversation, in order; one sampling for all, or one each.

        A conversation that cannot be answered gives an `Answer` with `refused`; what is raised concerns every ask.
        """

    def embed(self, pairs: Sequence[tuple[Sequence[bytes], str]]) -> np.ndarray:
        """Embed (images, text) pairs: float32 [n, dim], L2-normalised, in order.

        Raises:
            AskRefusedError: one of the pairs cannot be embedded; the others are asked without it.
        """

    def close(self) -> None:
        """Free the engine's memory."""


def pixel_limits(spec: EngineSpec) -> dict[str, int]:
    """The limits of `spec` that are set, by the processor's names `min_pixels` and `max_pixels`."""
    limits = {"min_pixels": spec.min_pixels, "max_pixels": spec.max_pixels}
    return {name: value for name, value in limits.items() if value is not None}
