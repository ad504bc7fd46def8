from __future__ import annotations

import json

import polars as pl

from data_engine.assemble import assemble
from data_engine.intake.ingest import rows_frame
from data_engine.recipe_settings import AssembleSettings
from data_engine.step import StepResult


def rows(*names, images=None):
    return rows_frame(
        [
            {
                "id": name, "question": name, "answer": "1", "answer_kind": "", "choices": [],
                "image_types": [None] * len((images or {}).get(name, [])),
                "captions": [None] * len((images or {}).get(name, [])), "category": None, "source": None,
                "difficulty": None, "answer_raw": "1", "extra": None, "source_name": "s", "source_id": f"key-{name}",
                "source_location": "l", "source_revision": "r", "row_hash": name,
                "image_hashes": (images or {}).get(name, []), "image_names": [],
            }
            for name in names
        ]
    )  # fmt: skip


def answers(**status):
    return StepResult(
        pl.DataFrame(
            [
                {
                    "id": name,
                    "answer_kind": "integer",
                    "status": "unverifiable" if reason else "verified",
                    "reason": reason,
                    "parsed": "",
                    "self_accepts": not reason,
                    "refuses_neighbour": True,
                }
                for name, reason in status.items()
            ]
        )
    )


def overlaps(*found):
    columns = ("id", "rule", "benchmark", "item", "score", "removes")
    return StepResult(
        pl.DataFrame(
            [{**dict(zip(columns, one, strict=True)), "benchmark_revision": "r", "evidence": "{}"} for one in found]
        )
    )


def cosines(*found):
    columns = ("id", "benchmark", "item", "score")
    return StepResult(pl.DataFrame([{**dict(zip(columns, one, strict=True)), "evidence": "{}"} for one in found]))


def duplicates(*found):
    columns = ("id", "duplicate_of", "score")
    return StepResult(
        pl.DataFrame([{**dict(zip(columns, one, strict=True)), "cluster": "c", "evidence": "{}"} for one in found])
    )


def decide(frame, results, names=None, **settings):
    done = assemble(frame, results, AssembleSettings(**settings), names or {})
    ledger = {entry["id"]: entry for entry in done.ledger.iter_rows(named=True)}
    assert len(ledger) == done.ledger.height, "one entry per row"
    assert done.rows.height + sum(done.removed.values()) == frame.height
    return done, ledger


def test_kinds_types_and_captions_land_in_their_columns():
    frame = rows("a", images={"a": ["1", "2"]})
    types = StepResult(pl.DataFrame({"image_hash": ["1", "2"], "image_type": ["chart", "gui"]}))
    captions = StepResult(pl.DataFrame({"image_hash": ["2"], "image_type": ["gui"], "caption": ["words"]}))
    done, ledger = decide(frame, {"verify_answers": answers(a=""), "type_images": types, "caption_images": captions})
    row = done.rows.row(0, named=True)
    assert (row["answer_kind"], row["image_types"], row["captions"]) == ("integer", ["chart", "gui"], [None, "words"])
    assert ledger == {}


def test_a_row_has_one_entry_and_its_other_findings_stand_in_the_evidence():
    results = {
        "verify_answers": answers(a="refuses_itself", b=""),
        "decontaminate_ngrams": overlaps(("a", "ngram_32", "math500", "m-1", 1.0, True)),
    }
    done, ledger = decide(rows("a", "b"), results, {("math500", "m-1"): "test/1.json"})
    assert ledger["a"]["step"] == "verify_answers"
    assert ledger["a"]["source_id"] == "key-a"
    assert json.loads(ledger["a"]["evidence"])["also"][0]["item"] == "test/1.json"
    assert done.removed == {"verify_answers": 1}


def test_the_thresholds_decide_and_near_misses_stay():
    found = cosines(("a", "m", "1", 0.95), ("b", "m", "1", 0.9499), ("c", "m", "1", 0.89))
    done, ledger = decide(rows("a", "b", "c"), {"decontaminate_embeddings": found})
    assert [(ledger[name]["removed"], ledger[name]["score"]) for name in ("a", "b")] == [(True, 0.95), (False, 0.9499)]
    assert set(ledger) == {"a", "b"}
    assert done.near_misses == 1
    lower, _ = decide(rows("a", "b", "c"), {"decontaminate_embeddings": found}, cosine_threshold=0.8)
    assert lower.rows.height == 0
    off, ledger = decide(
        rows("a", "b", "c"), {"decontaminate_embeddings": found}, cosine_threshold=1.01, cosine_near=1.01
    )
    assert (off.rows.height, ledger) == (3, {})


def test_equal_words_about_another_picture_are_noted_and_kept():
    done, ledger = decide(
        rows("a"), {"decontaminate_ngrams": overlaps(("a", "exact_short", "mathvista", "7", 1.0, False))}
    )
    assert done.rows.height == 1
    assert not ledger["a"]["removed"]


def test_a_duplicate_stays_where_its_original_leaves():
    results = {
        "verify_answers": answers(a="refuses_itself", b="", c="", d=""),
        "dedup_minhash": duplicates(("b", "a", 0.9), ("c", "a", 0.9), ("d", "a", 0.7)),
    }
    done, ledger = decide(rows("a", "b", "c", "d"), results)
    assert set(done.rows["id"]) == {"b", "d"}
    assert ledger["c"]["removed"]
    assert ledger["c"]["item"] == "b"
    assert not ledger["b"]["removed"]
    assert "left for another reason" in ledger["b"]["evidence"]


def test_failed_model_calls_become_entries_of_the_rows_they_belong_to():
    frame = rows("a", "b", images={"a": ["1", "2"], "b": ["3"]})
    failed = StepResult(
        pl.DataFrame({"image_hash": ["1", "3"], "image_type": ["chart", "gui"]}),
        failures=pl.DataFrame({"image_hash": ["2"], "reason": ["engine died"]}),
    )
    _, ledger = decide(frame, {"type_images": failed})
    assert (ledger["a"]["step"], ledger["a"]["rule"], ledger["a"]["removed"]) == ("type_images", "failed", True)
    kept, ledger = decide(frame, {"type_images": failed}, remove_failed=False)
    assert kept.rows.height == 2
    assert not ledger["a"]["removed"]


def test_rules_can_be_switched_off():
    results = {
        "verify_answers": answers(a="refuses_itself", b=""),
        "decontaminate_ngrams": overlaps(("b", "ngram_32", "math500", "1", 1.0, True)),
    }
    done, ledger = decide(rows("a", "b"), results, remove_unverifiable=False, remove_overlaps=False)
    assert done.rows.height == 2
    assert not any(entry["removed"] for entry in ledger.values())
