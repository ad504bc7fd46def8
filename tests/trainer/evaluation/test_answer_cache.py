"""Stored answers: found whatever made them, and told apart by it."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.annotations import merging, set_aside
from shared.fingerprint import bytes_hash, fingerprint
from shared.store import open_store
from shared.store.folder import FolderStore
from trainer.evaluation.cache import AnswerCache, StoredAnswer, answer_key

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


def test_a_question_with_another_prompt_image_or_sampling_is_another_question() -> None:
    asked = ("system", "text", ["a", "b"], {"temperature": 0.0, "seed": None})
    other = ("other", "words", ["b", "a"], {"temperature": 0.0, "seed": 1})
    variants = [(*asked[:place], other[place], *asked[place + 1 :]) for place in range(4)]
    assert len({answer_key(*one) for one in [asked, *variants, (*asked[:2], ["a"], asked[3])]}) == 6
    assert answer_key(*asked) == answer_key("system", "text", ("a", "b"), {"seed": None, "temperature": 0.0})


def test_a_question_that_failed_is_asked_again(tmp_path: Path) -> None:
    cache = AnswerCache(open_store(tmp_path), {"checkpoint": "a"})
    cache.keep({"good": ANSWER, "bad": StoredAnswer("", 0, 0, truncated=False, failure="engine_failed")})
    assert cache.find(["good", "bad"]) == {"good": ANSWER}


def test_answers_that_an_earlier_release_stored_are_found(tmp_path: Path) -> None:
    """Whatever its writer's settings were: columns that may be null, no promised maker."""
    store, identity = open_store(tmp_path), {"checkpoint": "a"}
    table = pa.table({"key": ["k"], "text": ["4"], "tokens": [1], "prompt_tokens": [9], "truncated": [False]})
    data = io.BytesIO()
    pq.write_table(table, data, compression="zstd")
    folder = f"evaluations/{fingerprint(identity)[:32]}"
    store.put_new(f"{folder}/{bytes_hash(data.getvalue())}.parquet", data.getvalue())
    cache = AnswerCache(store, identity, "vllm 2")
    assert cache.find(["k"]) == {"k": ANSWER}
    cache.keep({"l": ANSWER})
    assert AnswerCache(store, identity).find(["k", "l"]) == {"k": ANSWER, "l": ANSWER}


def test_an_evaluation_merges_small_segments_and_finds_all_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "MANY_SEGMENTS", 4)
    store = open_store(tmp_path)
    keys = [f"{number:02x}" * 32 for number in range(6)]
    for key in keys:
        AnswerCache(store, {}, "vllm 1").keep({key: ANSWER})
    assert set(AnswerCache(store, {}, "vllm 1").find(keys)) == set(keys)
    assert len(list(store.list("evaluations"))) == 1


class _ReadOnly(FolderStore):
    """A store that takes nothing."""

    def put_new(self, path: str, data: bytes | Path) -> bool:
        del data
        raise PermissionError(13, "read-only store", path)


def test_a_store_that_takes_nothing_gives_the_answers_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they lie in many segments, or one of these is damaged."""
    monkeypatch.setattr(merging, "MANY_SEGMENTS", 4)
    store = open_store(tmp_path)
    keys = [f"{number:02x}" * 32 for number in range(6)]
    for key in keys:
        AnswerCache(store, {}, "vllm 1").keep({key: ANSWER})
    before = sorted(entry.path for entry in store.list(""))
    readable = _ReadOnly(tmp_path)
    set_aside()
    assert set(AnswerCache(readable, {}, "vllm 1").find(keys)) == set(keys)
    assert set_aside() == []
    damaged = next(path for path in before if path.endswith(".parquet"))
    store.put(damaged, b"PAR1 nothing")
    assert len(AnswerCache(readable, {}, "vllm 1").find(keys)) == 5
    (told,) = set_aside()
    assert damaged in told
    assert "cannot be moved" in told
    assert sorted(entry.path for entry in store.list("")) == before


@pytest.mark.parametrize("order", [("4", "five"), ("five", "4")])
def test_of_two_answers_to_one_ask_every_later_evaluation_takes_the_same(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    store = open_store(tmp_path)
    for text in order:
        AnswerCache(store, {}).keep({"k": StoredAnswer(text, 1, 9, truncated=False)})
    assert AnswerCache(store, {}).find(["k"])["k"].text == "five"


def test_a_damaged_segment_of_answers_is_named_set_aside_and_asked_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    AnswerCache(store, {}).keep({"k": ANSWER})
    path = next(entry.path for entry in store.list("evaluations"))
    good = store.get(path)
    store.put(path, good[:30] + bytes([good[30] ^ 1]) + good[31:])
    set_aside()
    again = AnswerCache(store, {})
    assert again.find(["k"]) == {}
    assert [path in told for told in set_aside()] == [True]
    again.keep({"k": ANSWER})
    assert store.get(path) == good
