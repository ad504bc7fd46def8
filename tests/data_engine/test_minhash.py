"""Signatures equal datasketch's, pairs equal all-pairs Jaccard, and no input is quadratic."""

from __future__ import annotations

import itertools

import datasketch
import numpy as np
import polars as pl
import pytest

from data_engine.duplicates import minhash, similar_texts
from data_engine.duplicates.minhash import Shingling, bands_for, describe, signatures, signed_chunks
from data_engine.duplicates.similar_texts import similar_pairs
from data_engine.text_hash.reference import words
from tests.data_engine.plain_hashes import ngram_hash

FIVE = Shingling("ascii_words", 5)


def shingle_set(text, size=5):
    row = words(text, "unicode_words")
    if len(row) < size:
        return {tuple(row)} if row else set()
    return {tuple(row[i : i + size]) for i in range(len(row) - size + 1)}


def jaccard_of_sets(left, right):
    return len(left & right) / len(left | right)


def random_texts(count, seed, vocabulary=400, changes=3):
    rng = np.random.default_rng(seed)
    names = [f"w{i}" for i in range(vocabulary)]
    texts = [rng.choice(names, rng.integers(0, 60)).tolist() for _ in range(count)]
    for index in range(count // 2, count):
        texts[index] = list(texts[index - count // 2])
        for _ in range(rng.integers(0, changes + 1)):
            if texts[index]:
                texts[index][rng.integers(len(texts[index]))] = names[rng.integers(vocabulary)]
    return [" ".join(text) for text in texts]


def found_pairs(texts, threshold=0.8, groups=None):
    table = describe(texts, FIVE, bands_for(threshold))
    return similar_pairs(pl.Series(texts), table, threshold=threshold, shingling=FIVE, groups=groups)


@pytest.mark.parametrize(("num_perm", "seed"), [(70, 1), (128, 1), (64, 42)])
def test_signatures_equal_datasketch_for_the_same_tokens_permutations_and_seed(num_perm, seed):
    texts = [*random_texts(40, seed), "", "one", "two words"]
    found = np.concatenate([part[2] for part in signed_chunks(texts, FIVE, num_perm, numbers=False, seed=seed)], axis=1)
    for index, text in enumerate(texts):
        reference = datasketch.MinHash(
            num_perm, seed=seed, scheme="affine32", hashfunc=lambda shingle: ngram_hash(shingle) >> 32
        )
        reference.update_batch(shingle_set(text))
        assert found[:, index].tolist() == reference.hashvalues.tolist(), text


def test_signatures_equal_datasketch_with_its_own_hash_function():
    sets = [[b"a", b"b"], [], [b"c"]]
    hashed = [[datasketch.hashfunc.sha1_hash32(value) for value in members] for members in sets]
    offsets = np.cumsum([0, *map(len, sets)])
    found = signatures(np.array([h for row in hashed for h in row], np.uint32), offsets, 128, 1)
    for column, members in zip(found.T, sets, strict=True):
        reference = datasketch.MinHash(128, seed=1, scheme="affine32")
        reference.update_batch(members)
        assert column.tolist() == reference.hashvalues.tolist()


def test_bands_keep_the_recall_that_is_asked_at_the_threshold():
    for threshold, recall, num_perm in itertools.product((0.5, 0.7, 0.8, 0.9), (0.9, 0.995), (70, 128, 256)):
        try:
            bands = bands_for(threshold, recall, num_perm)
        except ValueError:
            assert 1 - (1 - threshold) ** num_perm < recall
            continue
        assert bands.count * bands.rows <= num_perm
        assert 1 - (1 - threshold**bands.rows) ** bands.count >= recall
    assert bands_for(0.8) == minhash.Bands(14, 5)
    assert bands_for(0.8, num_perm=128) == minhash.Bands(21, 6)


def test_bands_refuse_what_cannot_be_found():
    with pytest.raises(ValueError, match="cannot find"):
        bands_for(0.1, 0.999999, 8)
    with pytest.raises(ValueError, match="lies in"):
        bands_for(1.2)


def test_pairs_are_those_of_exact_jaccard():
    texts = random_texts(600, 5)
    found = found_pairs(texts)
    sets = [shingle_set(text) for text in texts]
    wanted = {
        (i, j): jaccard_of_sets(sets[i], sets[j])
        for i, j in itertools.combinations(range(len(texts)), 2)
        if sets[i] and sets[j] and jaccard_of_sets(sets[i], sets[j]) >= 0.8
    }
    pairs = {(i, j): s for i, j, s in zip(found.left.tolist(), found.right.tolist(), found.score.tolist(), strict=True)}
    assert all(wanted[pair] == pytest.approx(score, abs=1e-12) for pair, score in pairs.items())
    equal = {pair for pair, score in wanted.items() if score == 1.0 and words(texts[pair[0]]) == words(texts[pair[1]])}
    assert all(found.like[i] == found.like[j] for i, j in equal)
    first = found.like == np.arange(len(texts))
    near = {pair for pair in wanted if first[pair[0]] and first[pair[1]]}
    assert len(near) > 20
    assert len(near & set(pairs)) / len(near) >= 0.99


def test_pairs_with_other_numbers_are_found_and_groups_keep_them_apart():
    texts = [" ".join(f"w{'abcdefgh'[i % 8]}{'xyz' * (i % 11)}" for i in range(90)) + f" costs {n}" for n in (3, 5)]
    assert found_pairs(texts).left.tolist() == [0]
    table = describe(texts, FIVE, bands_for(0.8), numbers=True)
    assert found_pairs(texts, groups=table.numbers).left.tolist() == []


def test_texts_without_tokens_are_like_nothing():
    found = found_pairs(["", "", "?!", None, "x", "x"])
    assert found.like.tolist() == [0, 1, 2, 3, 4, 4]
    assert len(found.left) == 0


def test_no_texts_give_no_pairs():
    assert len(found_pairs([]).like) == 0


def test_identical_rows_are_one_text_without_any_comparison():
    found = found_pairs(["the same words in every row of this data set"] * 20_000)
    assert set(found.like.tolist()) == {0}
    assert found.proposed == 0


def test_many_texts_that_are_nearly_alike_are_connected_with_few_comparisons():
    body = " ".join(f"w{i}" for i in range(200))
    texts = [f"{body} end{i}" for i in range(3000)]
    found = found_pairs(texts)
    assert set(similar_texts.clusters(len(texts), found.left, found.right).tolist()) == {0}
    assert found.proposed < 20 * 3000
    assert found.cut_buckets == 0


def test_a_crowd_of_texts_just_below_the_threshold_is_cut_off_and_counted(monkeypatch):
    monkeypatch.setattr(similar_texts, "LEADERS", 4)
    rng = np.random.default_rng(0)
    body = [f"w{i}" for i in range(60)]
    texts = [" ".join(body[:45] + rng.permutation(body[45:]).tolist()) for _ in range(600)]
    found = found_pairs(texts)
    assert found.proposed < 600 * 48 * 14
    assert found.cut_buckets > 0


def test_a_million_words_are_signed_and_compared():
    rng = np.random.default_rng(2)
    long = rng.integers(0, 5000, 1_000_000).astype(str)
    other = long.copy()
    other[500_000] = "changed"
    found = found_pairs([" ".join(long), " ".join(other), "short"])
    assert found.left.tolist() == [0]
    assert found.score[0] > 0.9999


def test_clusters_are_connected_components():
    left, right = np.array([0, 2, 5, 4, 1]), np.array([1, 3, 6, 5, 3])
    assert similar_texts.clusters(8, left, right).tolist() == [0, 0, 0, 0, 4, 4, 4, 7]
