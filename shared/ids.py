"""Row identity: stable across rebuilds, machines and stores, and different where the content differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

HEX_DIGITS = 16
"""16 hex digits are 64 bits: among 10 million rows the chance of any collision is about 3e-6 (n^2 / 2^65)."""


def row_hash(question: str, answer: str, choices: Sequence[str], image_hashes: Sequence[str]) -> str:
    """Return the sha256 (64 hex digits) of what a solver sees and must answer, order included.

    Metadata (category, pass rates, the source's key) is left out: the same problem under another key has the same hash.
    """
    return fingerprint(
        {"question": question, "answer": answer, "choices": list(choices), "image_hashes": list(image_hashes)}
    )


def row_id(source_name: str, source_id: str, row_hash: str) -> str:
    """Return `SOURCE-16HEX`, the hash covering the source's own key and the content.

    Two rows of one source with equal keys but other content, or equal content under two keys, get two ids.
    """
    digest = fingerprint([source_name, source_id, row_hash])
    return f"{source_name}-{digest[:HEX_DIGITS]}"
