"""The chunked search equals one whole matrix product."""

from __future__ import annotations

import numpy as np
import pytest

from data_engine.decontamination import embedding_search
from data_engine.decontamination.embedding_search import nearest


def unit(rows, width, seed):
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("rows", "items"), [(1, 1), (7, 3), (100, 257), (513, 64)])
def test_best_item_and_cosine_equal_the_whole_product(monkeypatch, rows, items):
    monkeypatch.setattr(embedding_search, "ROWS", 32)
    monkeypatch.setattr(embedding_search, "ITEMS", 50)
    left, right = unit(rows, 24, 1), unit(items, 24, 2)
    right[items // 2] = left[0]
    whole = left @ right.T
    best, score = nearest(left, right, "numpy")
    assert best.tolist() == whole.argmax(axis=1).tolist()
    assert score == pytest.approx(whole.max(axis=1), abs=1e-6)
    assert best[0] == items // 2


def test_faiss_finds_the_same():
    pytest.importorskip("faiss", reason="faiss comes with group cpu or gpu")
    left, right = unit(50, 24, 1), unit(40, 24, 2)
    best, score = nearest(left, right, "faiss")
    other, value = nearest(left, right, "numpy")
    assert best.tolist() == other.tolist()
    assert score == pytest.approx(value, abs=1e-5)


def test_no_rows_have_no_best_item():
    best, score = nearest(np.empty((0, 8), np.float32), unit(3, 8, 0), "numpy")
    assert len(best) == len(score) == 0


def test_no_items_or_other_widths_are_refused():
    with pytest.raises(ValueError, match="at least one item"):
        nearest(unit(2, 8, 0), np.empty((0, 8), np.float32))
    with pytest.raises(ValueError, match="same width"):
        nearest(unit(2, 8, 0), unit(2, 4, 0))
