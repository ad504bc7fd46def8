"""Answers of models, kept in the store as soon as they are known, found again by content.

A context is what answered (checkpoint hash, number type, pixels, context length); a key is what was asked (system
prompt, question text, image hashes, sampling and its seed). An interrupted evaluation continues, an unchanged one asks
nothing, and a changed scorer re-scores without asking. Layout: `evaluations/<context>/<segment>.parquet`,
small immutable segments.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.fingerprint import bytes_hash, fingerprint
from shared.store import Store


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One answer of a model: its text, token counts, whether the token limit cut it, and why it failed, if so."""

    text: str
    tokens: int
    prompt_tokens: int
    truncated: bool
    failure: str = ""


class AnswerCache:
    """Answers of one context. `identity` names what answered; only successful answers are kept."""

    def __init__(self, store: Store, identity: dict[str, Any]) -> None:
        self._store = store
        self.context = fingerprint(identity)
        self._folder = f"evaluations/{self.context[:32]}"
        self._known: dict[str, StoredAnswer] | None = None

    def find(self, keys: Sequence[str]) -> dict[str, StoredAnswer]:
        """Answers among `keys` that are known already."""
        if self._known is None:
            self._known = self._load()
        return {key: self._known[key] for key in keys if key in self._known}

    def keep(self, answers: dict[str, StoredAnswer]) -> None:
        """Store answers now; failures are left out, so that they are asked again."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        good = {key: answer for key, answer in sorted(answers.items()) if not answer.failure}
        if not good:
            return
        table = pa.table(
            {
                "key": list(good),
                "text": [answer.text for answer in good.values()],
                "tokens": [answer.tokens for answer in good.values()],
                "prompt_tokens": [answer.prompt_tokens for answer in good.values()],
                "truncated": [answer.truncated for answer in good.values()],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        self._store.put_new(f"{self._folder}/{bytes_hash(data)}.parquet", data)
        if self._known is not None:
            self._known.update(good)

    def _load(self) -> dict[str, StoredAnswer]:
        import pyarrow.parquet as pq

        known: dict[str, StoredAnswer] = {}
        for entry in self._store.list(self._folder):
            if not entry.path.endswith(".parquet"):
                continue
            for row in pq.read_table(io.BytesIO(self._store.get(entry.path))).to_pylist():
                key = row.pop("key")
                known[key] = StoredAnswer(**row)
        return known


def answer_key(system: str, text: str, image_hashes: Sequence[str], sampling: dict[str, Any]) -> str:
    """Content key of one ask."""
    return fingerprint({"system": system, "text": text, "images": list(image_hashes), "sampling": sampling})
