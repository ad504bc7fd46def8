"""The label of a row: what its own columns say of tolerance, whatever they hold."""

import pytest

from shared.answers import grade, label_of
from shared.answers.labels import options_of


@pytest.mark.parametrize(
    ("extra", "accepted"),
    [
        ({"tolerance": 0.2}, True),
        ({"tolerance": "0.2"}, True),
        ({"error": "2e-1,1e-9"}, True),
        ({"answer_type": "float", "precision": "0"}, True),
        ({"tolerance": "N/A", "error": "0.2"}, True),
        ({}, False),
        ({"tolerance": "N/A"}, False),
        ({"tolerance": [0.2]}, False),
        ({"tolerance": -1}, False),
        ({"tolerance": True}, False),
        ({"tolerance": float("inf")}, False),
        ({"tolerance": "1e999"}, False),
        ({"tolerance": 10**400}, False),
        ({"error": "inf"}, False),
        ({"answer_type": "float", "precision": "inf"}, False),
        ({"answer_type": "float", "precision": [1]}, False),
    ],
)
def test_a_tolerance_that_is_no_positive_number_is_left_out_and_the_row_is_graded_without_it(extra, accepted):
    label = label_of("5", "integer", (), extra)
    assert grade(label["gold"], "5.1", **options_of(label)).correct is accepted
    assert grade(label["gold"], "5", **options_of(label)).correct
