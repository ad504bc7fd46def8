from __future__ import annotations

from shared.fingerprint import row_hash, row_id


def test_an_id_names_its_source_and_64_bits():
    identity = row_id("virl39k", "q1", row_hash("Q", "A", [], []))
    assert identity.startswith("virl39k-")
    assert len(identity) == len("virl39k-") + 16
    int(identity.removeprefix("virl39k-"), 16)


def test_everything_a_solver_sees_counts_and_nothing_else():
    base = row_hash("Q", "A", ["x", "y"], ["1", "2"])
    others = [
        row_hash("q", "A", ["x", "y"], ["1", "2"]),
        row_hash("Q", "B", ["x", "y"], ["1", "2"]),
        row_hash("Q", "A", ["y", "x"], ["1", "2"]),
        row_hash("Q", "A", ["x", "y"], ["2", "1"]),
        row_hash("Q", "A", ["x"], ["y", "1", "2"]),
    ]
    assert base not in others
    assert len(set(others)) == len(others)


def test_equal_content_under_two_keys_has_two_ids():
    content = row_hash("Q", "A", [], [])
    assert row_id("s", "1", content) != row_id("s", "2", content)
    assert row_id("s", "1", content) != row_id("t", "1", content)
