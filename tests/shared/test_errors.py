from __future__ import annotations

import pytest

from shared.errors import InfiMmrError, UsageError, did_you_mean, nearest


def test_an_error_is_one_line_of_message_and_next_step():
    error = InfiMmrError("the store\n  cannot be read.", "Check its\npermissions")
    assert str(error) == "the store cannot be read. Check its permissions"
    assert (error.exit_code, UsageError("x").exit_code) == (1, 2)


@pytest.mark.parametrize(
    ("word", "expected"), [("virl39k-captoned", "virl39k-captioned"), ("VIRL39K", "virl39k"), ("zzzzzz", None)]
)
def test_nearest_finds_misspelt_words_and_not_strangers(word, expected):
    assert nearest(word, ["virl39k", "virl39k-captioned", "deepscaler"]) == expected


def test_the_next_step_lists_what_is_known_where_nothing_is_near():
    assert did_you_mean("qqq", ["b", "a"]) == "Known: a, b"
