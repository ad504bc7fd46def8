"""A client of any OpenAI-compatible server: the same asks, answered elsewhere.

Bounded requests in flight, a time limit per request, retries with growing pauses where trying again can help (no
connection, time-out, 408, 409, 425, 429, 5xx). A request that the server refuses for itself (400, 413, 422) becomes an
`Answer` with `refused`; a wrong key, path or model name (401, 403, 404) and a server that stays down concern every ask
and are raised.

The key comes from the environment variable that the spec names and is never logged or put into an error.
Not covered: starting a server (`vllm serve`), streaming.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.code_points import carried
from shared.image_tags import IMAGE_TAG
from shared.store import shown_url
from shared.vlm.conversation import EMBEDDING_SYSTEM
from shared.vlm.failures import AskRefusedError, EndpointError
from shared.vlm.spec import Answer, Sampling, pixel_limits

if TYPE_CHECKING:
    import httpx

    from shared.vlm.conversation import Conversation
    from shared.vlm.spec import EngineSpec

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FOR_EVERY_ASK = frozenset({401, 403, 404})
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 20.0
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}


class _TryAgainError(Exception):
    """The server may answer the same request later."""

    def __init__(self, reason: str, *, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class EndpointEngine:
    """Asks a server at `spec.endpoint` for `spec.model`."""

    def __init__(self, spec: EngineSpec) -> None:
        import httpx

        self.spec = spec
        self._url = (spec.endpoint or "").rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            message = f"endpoint {shown_url(self._url)!r} is not an http address"
            raise EndpointError(message, "Name it like http://HOST:8000/v1.")
        key = os.environ.get(spec.api_key_env, "")
        self._http = httpx.Client(
            timeout=spec.timeout_seconds,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=spec.concurrency),
        )
        self._pool = ThreadPoolExecutor(max_workers=spec.concurrency, thread_name_prefix="endpoint")

    def chat(self, conversations: Sequence[Conversation], sampling: Sampling | Sequence[Sampling]) -> list[Answer]:
        """Answer each conversation, in order.

        Raises:
            EndpointError: the server is down after all attempts, refuses the key or does not know the model.
        """
        samplings = [sampling] * len(conversations) if isinstance(sampling, Sampling) else list(sampling)
        return list(self._pool.map(self._chat_one, zip(conversations, samplings, strict=True)))

    def embed(self, pairs: Sequence[tuple[Sequence[bytes], str]]) -> np.ndarray:
        """Embed (images, text) pairs through vLLM's `/embeddings` with messages: float32 [n, dim], L2-normalised."""
        vectors = np.asarray(list(self._pool.map(self._embed_one, pairs)), dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True) if len(vectors) else np.ones((0, 1), np.float32)
        return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)

    def close(self) -> None:
        """Close connections."""
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    def _chat_one(self, ask: tuple[Conversation, Sampling]) -> Answer:
        conversation, sampling = ask
        body: dict[str, Any] = {
            "model": self.spec.model,
            "messages": [_message(message) for message in conversation],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        # Fields beyond OpenAI's are sent only where asked for, so that other servers understand the rest.
        more = {
            "seed": sampling.seed,
            "top_k": sampling.top_k or None,
            "repetition_penalty": sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None,
            "structured_outputs": {"choice": list(sampling.choice)} if sampling.choice else None,
            "bad_words": list(sampling.banned_tokens) or None,
            "mm_processor_kwargs": pixel_limits(self.spec) or None,
        }
        body |= {name: value for name, value in more.items() if value is not None}
        try:
            made = self._post("/chat/completions", body)
        except AskRefusedError as error:
            return Answer.refusal(error.message)
        try:
            choice, usage = made["choices"][0], made.get("usage") or {}
            text = carried(choice["message"]["content"] or "")  # JSON may cut a character in half, Parquet holds none
        except (KeyError, IndexError, TypeError) as error:
            message = f"endpoint {shown_url(self._url)} answered without choices"
            raise EndpointError(message, "Name an OpenAI-compatible server.") from error
        if sampling.choice and text.strip() not in sampling.choice:
            return Answer.refusal(f"the endpoint answered {text[:40]!r}, which is not one of the allowed answers")
        return Answer(
            text=text.strip() if sampling.choice else text,
            tokens=int(usage.get("completion_tokens") or 0),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            finish_reason=str(choice.get("finish_reason") or "stop"),
        )

    def _embed_one(self, pair: tuple[Sequence[bytes], str]) -> list[float]:
        images, text = pair
        user: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images]
        user.append({"type": "text", "text": " ".join(text.replace(IMAGE_TAG, " ").split()) if images else text})
        messages: Conversation = [
            {"role": "system", "content": EMBEDDING_SYSTEM},
            {"role": "user", "content": user},
            {"role": "assistant", "content": "<|endoftext|>"},
        ]
        body = {
            "model": self.spec.model,
            "messages": [_message(message) for message in messages],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "encoding_format": "float",
        }
        made = self._post("/embeddings", body)
        try:
            return [float(number) for number in made["data"][0]["embedding"]]
        except (KeyError, IndexError, TypeError) as error:
            message = f"endpoint {shown_url(self._url)} answered without an embedding"
            raise EndpointError(message, "Serve the checkpoint with vllm serve --runner pooling.") from error

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.spec.attempts),
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            wait=_pause,
            reraise=True,
        )
        try:
            return retrying(self._post_once, path, body)
        except _TryAgainError as error:
            message = f"endpoint {shown_url(self._url)} failed {self.spec.attempts} times ({error})"
            raise EndpointError(message, "Start the server or check its address; finished answers are kept.") from error

    def _post_once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        try:
            response = self._http.post(self._url + path, json=body)
        except httpx.TimeoutException as error:
            raise _TryAgainError(f"no answer within {self.spec.timeout_seconds:g} s") from error
        except httpx.TransportError as error:
            raise _TryAgainError(type(error).__name__) from error
        if response.status_code in _TRY_AGAIN:
            raise _TryAgainError(f"status {response.status_code}", pause=_asked_pause(response))
        if response.status_code in _FOR_EVERY_ASK:
            message = (
                f"endpoint {shown_url(self._url)} says {response.status_code} for {self.spec.model}: {_said(response)}"
            )
            ends = "" if self._url.endswith("/v1") else " (most end in /v1)"
            step = f"Check the address{ends}, the model's name there, and the key in {self.spec.api_key_env}."
            raise EndpointError(message, step)
        if response.status_code >= 400:
            raise AskRefusedError(f"status {response.status_code}: {_said(response)}")
        try:
            made = response.json()
        except ValueError as error:
            raise _TryAgainError("an answer that is no JSON") from error
        if not isinstance(made, dict):
            raise _TryAgainError("an answer that is no JSON object")
        return made


def _pause(state: Any) -> float:
    """Seconds before the next attempt: doubling from 0.25 to 20, or what the server asked for (Retry-After)."""
    error = state.outcome.exception()
    doubled = _FIRST_PAUSE_SECONDS * 2.0 ** (state.attempt_number - 1)
    return float(min(_LONGEST_PAUSE_SECONDS, max(doubled, getattr(error, "pause", 0.0))))


def _asked_pause(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else 0.0


def _said(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if isinstance(message["content"], str):
        return message
    return {**message, "content": [_part(part) for part in message["content"]]}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    data: bytes = part["image"]
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "png")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}}
