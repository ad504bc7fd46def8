"""Chat-message forms as one question and one answer.

Known forms: LLaVA and ShareGPT (`[{"from": "human", "value": ...}, {"from": "gpt", ...}]`), OpenAI messages
(`[{"role": "user", "content": text or parts}]`, parts of text and pictures), the same as JSON text. Input: the value of
a column. Output: the first exchange: the user's turns before the first answer, and that answer; pictures that stand
inside the parts, in order, with an `<image>` in their place.
Not covered: later exchanges (they need the earlier ones; how many there were is told), tool calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_engine.sources.arrow_texts import ends_of, series, spread, valid
from shared.image_tags import IMAGE_TAG

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_ASKS = {"human", "user", "question", "instruction"}
_ANSWERS = {"gpt", "assistant", "bot", "model", "answer", "chatgpt"}
_TEXT_KEYS = ("value", "content", "text")
_ROLE_KEYS = ("from", "role", "speaker")
_PLAIN_KEYS = (("from", "value"), ("role", "content"))
"""Role and text of the commonest messages."""
_TEXT_TYPES = ("string", "large_string")


@dataclass
class Exchange:
    """What was asked and answered first."""

    question: str = ""
    answer: str | None = None
    images: list[Any] = field(default_factory=list)
    """Pictures inside the parts; None for a part that says only that one stands here."""
    later: int = 0
    """Exchanges after the first."""


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages in one of the known forms."""
    return _messages(value) is not None


def last_exchange_has_answer(value: Any) -> bool:
    """Whether the conversation holds an answer."""
    found = first_exchange(value)
    return found is not None and found.answer is not None


def first_exchange(value: Any) -> Exchange | None:
    """The first exchange of a conversation; None for other values."""
    if type(value) is list and len(value) == 2 and (pair := _plain_pair(*value)) is not None:
        return pair
    messages = _messages(value)
    if messages is None:
        return None
    found = Exchange()
    asked: list[str] = []
    for role, content in messages:
        if role in _ANSWERS:
            if found.answer is None:
                found.answer = _text(content, [])
            else:
                found.later += 1
        elif role in _ASKS and found.answer is None:
            asked.append(_text(content, found.images))
    found.question = "\n".join(text for text in asked if text)
    return found


def given_trace(value: Any) -> str | list[str] | None:
    """Reasoning traces as a column gives them: a text, the answer of a conversation, or several of these as a list."""
    exchange = first_exchange(value)
    if exchange is not None:
        return exchange.answer
    if isinstance(value, list | tuple):
        traces = [trace for item in value if isinstance(trace := given_trace(item), str)]
        return traces or None
    return value if isinstance(value, str) and value.strip() else None


def _plain_pair(asks: Any, answers: Any) -> Exchange | None:
    """The commonest conversation, one question and one answer as texts, at a tenth of the time."""
    for role, text in _PLAIN_KEYS:
        if type(asks) is dict and type(answers) is dict and asks.get(role) in _ASKS and answers.get(role) in _ANSWERS:
            question, answer = asks.get(text), answers.get(text)
            return Exchange(question, answer) if type(question) is str and type(answer) is str else None
    return None


def message_keys(messages: Sequence[Any]) -> tuple[str, str] | None:
    """Names of role and text in messages of the commonest form; None for others."""
    known = (keys for keys in _PLAIN_KEYS if all(isinstance(one, dict) and set(keys) <= one.keys() for one in messages))
    return next(known, None) if messages else None


def plain_pairs(talks: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]] | None:
    """Texts of all messages of a column of conversations, and where each asks: its answer stands next to it.

    -1 for what is no plain question and answer; None for a column without messages of the commonest form. Agrees with
    `first_exchange` (a test holds it to it).
    """
    import numpy as np
    import pyarrow as pa

    if not pa.types.is_list(talks.type) and not pa.types.is_large_list(talks.type):
        return None
    kind = talks.type.value_type
    names = [kind.field(place).name for place in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    keys = next((keys for keys in _PLAIN_KEYS if keys[0] in names), None)
    if keys is None or any(key not in names or str(kind.field(key).type) not in _TEXT_TYPES for key in keys):
        return None
    parts = dict(zip(names, talks.values.flatten(), strict=True))
    roles, texts = (parts[key] for key in keys)
    starts = ends_of(talks).astype(np.int64)
    pairs = np.flatnonzero((np.diff(starts) == 2) & valid(talks))
    first = starts[pairs]
    there = valid(texts)
    plain = _asked_and_answered(roles, first) & there[first] & there[first + 1]
    places = np.full(len(talks), -1, dtype=np.int64)
    places[pairs[plain]] = first[plain]
    return texts, places


def _asked_and_answered(roles: pa.Array, first: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether the roles at `first` ask and those behind them answer; mostly all are the same two."""
    import numpy as np

    codes, begins, ends = spread(roles)
    if 2 * len(first) == len(roles) and len(roles) and not roles.null_count:
        width = int(ends[1])
        same = len(codes) == width * len(first) and bool((ends[1::2] == width * np.arange(1, len(first) + 1)).all())
        if same and (codes.reshape(-1, width) == codes[:width]).all() and (ends[::2] - begins[::2] == ends[0]).all():
            return np.full(len(first), roles[0].as_py() in _ASKS and roles[1].as_py() in _ANSWERS)
    role = series(roles)
    asks, answers = (role.is_in(list(known)).fill_null(value=False).to_numpy() for known in (_ASKS, _ANSWERS))
    return np.asarray(asks[first] & answers[first + 1])


def _messages(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list | tuple) or not value:
        return None
    found: list[tuple[str, Any]] = []
    for message in value:
        turn = _turn(message)
        if turn is None:
            return None
        found.append(turn)
    return found if any(role in _ASKS for role, _ in found) else None


def _turn(message: Any) -> tuple[str, Any] | None:
    """Role and content of one message; None for what is none."""
    if not isinstance(message, dict):
        return None
    for key in _ROLE_KEYS:
        role = message.get(key)
        if isinstance(role, str):
            text = next((name for name in _TEXT_KEYS if name in message), None)
            return None if text is None else (role.lower(), message[text])
    return None


def _text(content: Any, images: list[Any]) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list | tuple):
        return ""
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            kind = str(part.get("type") or "")
            inside = next((part[key] for key in ("image_url", "image", "url", "path", "bytes") if part.get(key)), None)
            if kind.startswith(("image", "input_image")) or (not kind and inside is not None):
                images.append(part if isinstance(inside, bytes) else inside)
                texts.append(IMAGE_TAG)
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
    return "\n".join(text.strip() if text != IMAGE_TAG else text for text in texts if text)
