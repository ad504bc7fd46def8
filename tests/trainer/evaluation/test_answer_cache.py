"""Stored answers: found whatever made them, and told apart by it."""

from __future__ import annotations

from pathlib import Path

from shared.store import open_store
from trainer.evaluation.cache import AnswerCache, StoredAnswer

ANSWER = StoredAnswer("4", 1, 9, truncated=False)


def test_answers_of_another_version_are_used_and_counted(tmp_path: Path) -> None:
    """Also those from before answers said what made them."""
    store, identity = open_store(tmp_path), {"checkpoint": "a"}
    for maker, key in (("", "old"), ("vllm 1, code x", "other"), ("vllm 2, code x", "own")):
        AnswerCache(store, identity, maker).keep({key: ANSWER})
    cache = AnswerCache(store, identity, "vllm 2, code x")
    assert set(cache.find(["old", "other", "own", "unknown"])) == {"old", "other", "own"}
    assert cache.made_elsewhere(["old", "other", "own"]) == {"code that does not say": 1, "vllm 1, code x": 1}
    cache.keep({"fresh": ANSWER})
    assert cache.made_elsewhere(["fresh", "own"]) == {}
