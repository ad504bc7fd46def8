"""Answers of models, kept in the store as soon as they are known, found again by content.

A context is what answered (checkpoint hash, number type, pixels, context length); a key is what was asked (system
prompt, question text, image hashes, sampling and its seed). An interrupted evaluation continues, an unchanged one asks
nothing, and a changed scorer re-scores without asking. Layout: `evaluations/<context>/<segment>.parquet`,
small immutable segments, each of which says in its metadata which library and code made its answers. Neither is part of
the context: what raises it is `shared.vlm.identity.ASKING_REVISIONS`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.fingerprint import bytes_hash, fingerprint
from shared.store import Store

_MAKER = b"made_by"


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

    def __init__(self, store: Store, identity: dict[str, Any], made_by: str = "") -> None:
        self._made_by = made_by
        self._elsewhere: dict[str, str] = {}
        self._store = store
        self.context = fingerprint(identity)
        self._folder = f"evaluations/{self.context[:32]}"
        self._known: dict[str, StoredAnswer] | None = None

    def find(self, keys: Sequence[str]) -> dict[str, StoredAnswer]:
        """Answers among `keys` that are known already."""
        if self._known is None:
            self._known = self._load()
        return {key: self._known[key] for key in keys if key in self._known}

    def made_elsewhere(self, keys: Sequence[str]) -> dict[str, int]:
        """Known answers among `keys` that other code or another version of the engine made: maker -> answers."""
        return dict(sorted(Counter(self._elsewhere[key] for key in set(keys) if key in self._elsewhere).items()))

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
        table = table.replace_schema_metadata({_MAKER: self._made_by})
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
            table = pq.read_table(io.BytesIO(self._store.get(entry.path)))
            maker = (table.schema.metadata or {}).get(_MAKER, b"").decode()
            for row in table.to_pylist():
                key = row.pop("key")
                if maker != self._made_by:
                    self._elsewhere[key] = maker or "code that does not say"
                known[key] = StoredAnswer(**row)
        return known


def answer_key(system: str, text: str, image_hashes: Sequence[str], sampling: dict[str, Any]) -> str:
    """Content key of one ask."""
    return fingerprint({"system": system, "text": text, "images": list(image_hashes), "sampling": sampling})
