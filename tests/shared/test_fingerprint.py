from __future__ import annotations

import enum
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Strict
from shared.fingerprint import bytes_hash, canonical_json, file_hash, fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Colour(enum.StrEnum):
    RED = "red"


class Model(Strict):
    a: int = 1
    colour: Colour = Colour.RED


@given(PLAIN)
def test_equal_values_have_equal_fingerprints_whatever_the_order_of_keys(value):
    def turned(item):
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(list(item))}
        return [turned(one) for one in item] if isinstance(item, list) else item

    assert fingerprint(value) == fingerprint(turned(value))


def test_types_that_differ_in_meaning_differ():
    texts = [fingerprint(value) for value in (1, 1.0, "1", True, None, [1], {"1": 1}, [[1]])]
    assert len(set(texts)) == len(texts)


def test_models_enums_and_tuples_count_by_their_content():
    assert fingerprint(Model()) == fingerprint({"a": 1, "colour": "red"})
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, object(), math.nan, math.inf, b"x", {1: 2}])
def test_what_has_no_canonical_form_is_refused_by_its_place(value):
    with pytest.raises(TypeError, match=r"\$\.steps\[1\]"):
        fingerprint({"steps": [0, value]})


def test_file_and_bytes_hash_agree(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"abc" * 1_000_000)
    assert file_hash(file) == bytes_hash(b"abc" * 1_000_000)


def test_a_known_fingerprint_stays_what_it_is():
    """Computed by another program: printf '{"a":[1,"x",null]}' | sha256sum."""
    assert fingerprint({"a": [1, "x", None]}) == "cf946966268a847cf33ffefa5b616e3e6f8eb1333575ed1716fa60602d565ff7"
