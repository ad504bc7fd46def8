"""Answers of models, kept in the store as soon as they are known, found again by content.

A context is what answered (checkpoint hash, number type, pixels, context length); a key is what was asked (system
prompt, question text, image hashes, sampling and its seed). An interrupted evaluation continues, an unchanged one asks
nothing, and a changed scorer re-scores without asking. They lie in `evaluations/<context>` as a table of
`shared.annotations`, which merges segments, sets damaged ones aside and settles which of two answers holds.
Neither the library nor the code that made an answer is part of its context: what raises it is
`shared.vlm.checkpoint.ASKING_REVISIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.fingerprint import fingerprint
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

    def __init__(self, store: Store, identity: dict[str, Any], made_by: str = "") -> None:
        import pyarrow as pa

        from shared.annotations import AnnotationTable

        self.context = fingerprint(identity)
        counts = [("tokens", pa.int64()), ("prompt_tokens", pa.int64())]
        values = pa.schema([("text", pa.string()), *counts, ("truncated", pa.bool_())])
        folder = f"evaluations/{self.context[:32]}"
        self._table = AnnotationTable(store, "evaluation", self.context, values, made_by=made_by, folder=folder)

    def find(self, keys: Sequence[str]) -> dict[str, StoredAnswer]:
        """Answers among `keys` that are known already."""
        return {key: StoredAnswer(**values) for key, values in self._table.lookup(keys).items()}

    def made_elsewhere(self, keys: Sequence[str]) -> dict[str, int]:
        """Known answers among `keys` that other code or another version of the engine made: maker -> answers."""
        found = self._table.made_elsewhere(keys)
        return {maker or "code that does not say": count for maker, count in found.items()}

    def keep(self, answers: dict[str, StoredAnswer]) -> None:
        """Store answers now; failures are left out, so that they are asked again."""
        good = {key: answer for key, answer in sorted(answers.items()) if not answer.failure}
        self._table.append([{"key": key, **asdict(answer)} for key, answer in good.items()])


def answer_key(system: str, text: str, image_hashes: Sequence[str], sampling: dict[str, Any]) -> str:
    """Content key of one ask."""
    return fingerprint({"system": system, "text": text, "images": list(image_hashes), "sampling": sampling})
