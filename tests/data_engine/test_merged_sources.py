"""Several sources in one recipe: one version, a column that says which, ids kept apart, each with its own limits."""

import json
import shutil
from collections import Counter

import pytest

from data_engine.build import BuildRequest, build
from data_engine.inputs import open_inputs
from data_engine.plan import plan_build
from data_engine.recipe import load_recipe
from data_engine.why import tell
from shared.errors import InfiMmrError, UsageError
from shared.progress import Progress

RECIPE = """
[sources.sums]
reader = "table"
location = "sums.jsonl"
licence = "mit"
[sources.charts]
reader = "table"
location = "charts.jsonl"
limit = 30
weight = 0.5
[sources.drawn]
reader = "virl39k"
location = "mini"
limit = 20
[steps.verify_answers]
"""


@pytest.fixture
def recipe(tmp_path):
    for name, offset in (("sums", 0), ("charts", 1000)):
        rows = [{"id": n, "question": f"What is {offset} + {n}?", "answer": str(offset + n)} for n in range(40)]
        rows.append({"id": 7, "question": "A question without an answer?", "answer": None})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "both.toml"
    file.write_text(RECIPE)
    return file


def request(recipe, tmp_path, **more):
    return BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / "store"), **more)


def test_merged_sources_are_one_version_that_says_which_row_is_whose(recipe, tmp_path):
    version = build(request(recipe, tmp_path), Progress()).version
    rows = version.scan().collect()
    counts = Counter(rows["source_name"])
    assert counts["sums"] == 40
    assert 8 <= counts["charts"] <= 22
    assert counts["drawn"] >= 15
    assert all(identity.startswith(f"{name}-") for identity, name in rows.select("id", "source_name").iter_rows())
    assert rows["id"].is_unique().all()
    assert set(rows.filter(rows["source_name"] == "charts")["source_id"]) <= {str(n) for n in range(30)}
    manifest = version.manifest
    assert [entry.name for entry in manifest.inputs] == ["sums", "charts", "drawn"]
    assert [entry.rows for entry in manifest.inputs] == [41, counts["charts"], 20]
    assert manifest.counts[0].rows_in == 61 + counts["charts"]
    assert {**manifest.licences, "drawn": ""} == {"sums": "mit", "drawn": ""}
    assert "the licence of the rows of charts is not stated (sources.charts.licence)" in manifest.warnings
    entry = version.ledger().filter(version.ledger()["rule"] == "missing_answer")
    assert entry["id"].to_list()[0].startswith("sums-")
    assert list(manifest.recipe["sources"]) == ["sums", "charts", "drawn"]
    assert "source" not in manifest.recipe
    assert str(tmp_path) not in json.dumps(manifest.recipe)


def test_the_same_merged_recipe_is_found_and_another_part_is_another_version(recipe, tmp_path):
    first = build(request(recipe, tmp_path), Progress())
    assert build(request(recipe, tmp_path), Progress()).found
    again = build(request(recipe, tmp_path, overrides=["sources.charts.weight=1.0"]), Progress())
    assert not again.found
    kept = set(first.version.scan().collect()["id"])
    assert kept < set(again.version.scan().collect()["id"]), "a smaller weight takes a part of the same rows"
    limited = build(request(recipe, tmp_path, limit=5, overrides=["sources.charts.weight=1.0"]), Progress())
    assert Counter(limited.version.scan().collect()["source_name"]) == {"sums": 5, "charts": 5, "drawn": 5}
    found = plan_build(request(recipe, tmp_path, overrides=["sources.charts.weight=0.9"]), Progress())
    assert found["source"].startswith("sums.jsonl, charts.jsonl, mini (sums: ")


def test_one_problem_of_two_sources_with_two_answers_is_in_neither(recipe, tmp_path):
    (tmp_path / "charts.jsonl").write_text('{"question": "What is 0 + 3?", "answer": "4"}\n')
    version = build(request(recipe, tmp_path, overrides=["sources.charts.weight=1.0"]), Progress()).version
    ledger = version.ledger()
    assert sorted(
        identity.split("-")[0] for identity in ledger.filter(ledger["rule"] == "conflicting_answers")["id"]
    ) == [
        "charts",
        "sums",
    ]


def test_wrong_merging_is_one_line_with_the_next_step(recipe, tmp_path):
    for text, options, words in (
        (f'[source]\nreader = "table"\nlocation = "x"\n{RECIPE}', {}, r"has both \[source\] and \[sources\.NAME\]"),
        ("[steps.verify_answers]\n", {}, r"source\.reader is missing"),
        (RECIPE, {"source": "x.jsonl"}, r"--source does not say which is meant. Write --set sources\.sums\.location"),
        (RECIPE, {"licence": "mit"}, r"--license does not say which is meant"),
        (RECIPE.replace("weight = 0.5", "weight = 1.5"), {}, r"sources\.charts\.weight"),
        (RECIPE.replace("weight = 0.5", "weigth = 0.5"), {}, r"unknown key sources\.charts\.weigth.*weight"),
        (RECIPE.replace("sources.sums", "sources.'My Sums'"), {}, r"My Sums"),
    ):
        recipe.write_text(text)
        with pytest.raises(UsageError, match=words):
            load_recipe(str(recipe), "local", **options)
    recipe.write_text(RECIPE.replace("charts.jsonl", "gone.jsonl"))
    with pytest.raises(InfiMmrError, match=r"source charts: .*gone\.jsonl does not exist"):
        build(request(recipe, tmp_path), Progress())


def test_a_recipe_of_one_source_has_the_identity_that_it_always_had(tmp_path):
    inputs = open_inputs(load_recipe("virl39k", "local", overrides=["benchmarks={}", "steps={}"]))
    identity = inputs.identity()
    assert set(identity) == {"name", "profile", "description", "source", "benchmarks", "steps", "assemble", "shards"}
    assert set(identity["source"]) == {
        "reader", "location", "revision", "benchmark", "files", "licence", "limit", "mini",
    }  # fmt: skip


def test_why_names_the_part_that_a_row_comes_from_also_where_only_shards_and_ledger_are_left(recipe, tmp_path):
    store = tmp_path / "store"
    version = build(request(recipe, tmp_path), Progress()).version
    shutil.rmtree(store / "annotations")
    kept = next(name for name in version.scan().collect()["id"] if name.startswith("charts-"))
    removed = next(name for name in version.ledger()["id"] if name.startswith(("charts-", "sums-")))
    for identity in (kept, removed):
        (told,) = tell(identity, str(store))["versions"]
        part = identity.split("-")[0]
        assert told["source"]["source_name"] == part
        assert told["source"]["source_location"] == f"{part}.jsonl"
    assert told["kept"] is False
