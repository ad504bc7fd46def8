from __future__ import annotations

import shutil

import polars as pl
import pytest

from data_engine.build import BuildRequest, build
from data_engine.cli_output import say_story
from data_engine.why import tell
from shared.errors import InfiMmrError
from shared.progress import Progress

RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 12
duplicates = 2
copies = 1
renumbered = 0
[steps.verify_answers]
[steps.decontaminate_ngrams]
planted_duplicates = 0
[steps.dedup_minhash]
[benchmarks.mathvista]
location = "mini"
rows = 4
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    (folder / "small.toml").write_text(RECIPE)
    request = BuildRequest(recipe=str(folder / "small.toml"), profile="local", store=str(folder / "store"))
    build(request, Progress())
    return folder / "store"


def test_a_kept_row_tells_source_and_every_step(store):
    story = tell("mini-virl39k-1", str(store))
    (told,) = story["versions"]
    assert told["kept"]
    assert told["label"] == "small@v1 (local)"
    assert told["source"]["source_location"] == "mini"
    assert told["steps"]["verify_answers"]["status"] == "verified"
    assert told["ledger"] == []
    assert tell(story["id"], str(store)) == story, "by id as by the source's key"


def test_a_removed_row_tells_by_what_evidence(store):
    (told,) = tell("from-mini-mathvista-0", str(store), "small@v1")["versions"]
    assert not told["kept"]
    (entry,) = told["ledger"]
    assert (entry["step"], entry["benchmark"], entry["item"]) == (
        "decontaminate_ngrams",
        "mathvista",
        "mini-mathvista-0",
    )
    assert entry["evidence"]["row"]["text"]
    assert told["question"].replace("<image>", " " * 7) == entry["evidence"]["row"]["text"]
    assert told["findings"][0]["removes"]


def test_an_unknown_row_names_where_was_looked(store):
    with pytest.raises(InfiMmrError, match=r"no row nonsense in small@v1 \(local\)"):
        tell("nonsense", str(store))


def test_a_refused_record_tells_where_it_comes_from(tmp_path, capsys):
    """No empty place: the manifest names the source of every row."""
    (tmp_path / "rows.json").write_text('[{"problem": "x?", "answer": "1"}, {"problem": "y?", "answer": null}]')
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n')
    build(BuildRequest(str(own), "local", str(tmp_path / "s"), source=str(tmp_path / "rows.json")), Progress())
    story = tell("1", str(tmp_path / "s"))
    assert story["versions"][0]["source"]["source_location"] == "rows.json"
    say_story(story)
    assert "source: deepscaler 1 in rows.json" in capsys.readouterr().err


def test_without_the_findings_shards_and_ledger_still_speak(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    shutil.rmtree(copy / "annotations")
    (told,) = tell("mini-virl39k-1", str(copy))["versions"]
    assert told["kept"]
    assert told["question"]
    assert "not in this store" in told["note"]


def test_every_record_has_a_story(store):
    from shared.dataset_version import open_dataset

    version = open_dataset("small", store)
    ids = [*version.scan().collect()["id"], *version.ledger().filter(pl.col("removed"))["id"]]
    assert len(ids) == 12 + 2 + 2 + 3
    for identity in ids:
        (told,) = tell(identity, str(store))["versions"]
        assert "note" not in told
