"""Builds that go on behind what another build of the same source read and judged."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from data_engine import inputs, kept_stages, stage_code, step_blocks
from data_engine.blocks import Parts
from data_engine.build import BuildRequest, build, resolve
from data_engine.cell_counts import CellNotes, noted
from data_engine.expected_time import records_of
from data_engine.inputs import open_inputs
from data_engine.intake import in_blocks
from data_engine.kept_stages import KEPT_SECONDS
from data_engine.plan import plan_build
from data_engine.runners.local import LocalRunner
from data_engine.sharing.gc import collect
from data_engine.step_order import step_module
from shared.dataset_version import list_datasets
from shared.fingerprint import file_hash
from shared.progress import Progress
from shared.store import open_store

ROOT = Path(__file__).resolve().parents[2]
STEPS = """
[steps.verify_answers]
[steps.decontaminate_ngrams]
planted_duplicates = 2
[steps.dedup_minhash]
planted_duplicates = 2
"""
ONE = f'[source]\nreader = "table"\nlocation = "sums.jsonl"\n{STEPS}'
SEVERAL = f"""
[sources.first]
reader = "table"
location = "sums.jsonl"
[sources.second]
reader = "table"
location = "more.jsonl"
weight = 0.5
{STEPS}"""


def sum_of(n: int, word: str) -> str:
    kind = f"{chr(97 + n % 20)}{chr(97 + n // 20)}"
    return f"Ann has {n % 9} {word} of kind {kind} in a bag and finds {n // 9} more on the way; how many is that?"


def write_sums(file: Path, count: int, *, word: str = "marbles") -> None:
    rows = [{"id": n, "question": sum_of(n, word), "answer": str(n % 9 + n // 9)} for n in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], {**rows[1], "id": "again"}]))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two sources, two benchmarks and recipes; rows come in two blocks."""
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 24)
    monkeypatch.setattr(in_blocks, "PART_ROWS", 16)
    write_sums(tmp_path / "sums.jsonl", 40)
    write_sums(tmp_path / "more.jsonl", 20, word="pebbles")
    for name, word in (("mine", "marbles"), ("yours", "pebbles")):
        item = {"id": "i", "question": sum_of(17, word), "answer": "9"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "one.toml").write_text(ONE)
    (tmp_path / "several.toml").write_text(SEVERAL)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """How often a source was read."""
    count, ingest = Counter(), in_blocks.ingest_blocks

    def counted(*given, **named):
        count["reads"] += 1
        return ingest(*given, **named)

    monkeypatch.setattr(in_blocks, "ingest_blocks", counted)
    return count


def run(place, store, recipe="one", benchmarks=("mine",), **options):
    named = [f"{name}={place / name}.jsonl" for name in benchmarks]
    request = BuildRequest(str(place / f"{recipe}.toml"), "local", str(place / store), benchmarks=named, **options)
    return build(request, Progress())


def whole(report):
    """All that a build wrote, without when it was and what it computed."""
    manifest = report.version.manifest
    told = manifest.model_dump(mode="json", exclude={"counts", "created_at", "version", "label"})
    told["counts"] = [(step.name, step.rows_in, step.rows_out) for step in manifest.counts]
    return told | {file.name: file_hash(file) for file in report.version.path.iterdir() if file.suffix != ".json"}


def computed(report):
    return {step.name: step.computed for step in report.steps if step.computed}


@pytest.mark.parametrize("recipe", ["one", "several"])
def test_another_threshold_reads_no_source_and_judges_no_row_again(place, reads, recipe):
    run(place, "store", recipe)
    assert reads["reads"] == 1
    other = ["assemble.jaccard_threshold=0.95", "assemble.remove_unverifiable=false"]
    again = run(place, "store", recipe, overrides=other)
    assert (reads["reads"], again.found, computed(again)) == (1, False, {})
    assert whole(again) == whole(run(place, "fresh", recipe, overrides=other))


def test_a_plan_takes_the_rows_that_a_build_kept_and_keeps_nothing_itself(place, reads):
    def plan(store):
        named = [f"mine={place / 'mine.jsonl'}"]
        request = BuildRequest(str(place / "one.toml"), "local", str(place / store), benchmarks=named, limit=30)
        return plan_build(request, Progress())

    anew = plan("fresh")
    assert (reads["reads"], (place / "fresh" / "stages").exists()) == (1, False)
    run(place, "store", limit=30, overrides=["assemble.jaccard_threshold=0.95"])
    kept = plan("store")
    assert reads["reads"] == 2  # those of the first plan and of the build
    assert {**kept, "seconds": 0, "steps": []} == {**anew, "seconds": 0, "steps": []}
    assert [step["note"] for step in kept["steps"]] == ["found by an earlier build about the same rows"] * 3


def test_files_that_do_not_say_how_many_records_they_hold_are_judged_by_their_size(place):
    write_sums(place / "long.jsonl", 3000)
    rows = pl.read_ndjson(place / "long.jsonl", schema_overrides={"id": pl.String})
    rows.write_csv(place / "long.csv")
    for name in ("long.jsonl", "long.csv"):
        (place / "long.toml").write_text(f'[source]\nreader = "table"\nlocation = "{name}"\n')
        source = open_inputs(resolve(BuildRequest(str(place / "long.toml"), "local", str(place / "store")))).source
        assert source.count() is None
        assert 0.9 < records_of(source) / rows.height < 1.1
        assert records_of(source, 10) == 10


def test_a_plan_counts_the_same_calls_in_many_blocks_as_in_one(place, monkeypatch):
    told = "[source.mini]\nrows = 60\nduplicates = 4\ncopies = 0\nrenumbered = 0\n[steps.type_images.engine]\n"
    (place / "typed.toml").write_text(f'[source]\nreader = "virl39k"\nlocation = "mini"\n{told}model = "tiny-vl"\n')
    request = BuildRequest(str(place / "typed.toml"), "local", str(place / "store"))
    many = plan_build(request, Progress())
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 1000)
    assert many == {**plan_build(request, Progress()), "store_requests": many["store_requests"]}
    assert many["model_calls"] == many["images"] > 0
    assert many["assumed_rates"] == ["type_images"]


def test_a_build_tells_the_same_counts_in_many_blocks_as_in_one(place, monkeypatch):
    rows = [{"id": n, "question": sum_of(n % 30, "marbles"), "answer": str(n % 3)} for n in range(60)]
    (place / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep = ["assemble.remove_conflicts=false"]

    def counts(store, *more):
        report = run(place, store, overrides=[*keep, *more], benchmarks=("mine", "yours"))
        return {step.name: (step.computed, step.reused) for step in report.steps}

    many = [counts("many")]
    shutil.rmtree(place / "many" / "stages")
    many.append(counts("many", "assemble.jaccard_threshold=0.9"))
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 1000)
    assert [counts("one"), counts("one", "assemble.jaccard_threshold=0.9")] == many
    assert many[0]["verify_answers"] == (3, 0)  # three answers in all, whatever block they lie in
    assert many[1]["verify_answers"] == (0, 3)
    assert many[0]["decontaminate_ngrams"] == (60, 0)  # thirty questions against each of two benchmarks


def test_a_cell_that_two_workers_made_at_once_was_made_once(tmp_path):
    notes = CellNotes(Parts(open_store(tmp_path), "cells"), 16)
    notes.write(0, noted(["a", "b", "a"], ["a"]))
    notes.write(1, noted(["a", "c"], ["a"]))
    notes.write(2, pl.concat([noted(["c"], [], "other table"), noted(["a"], [])]))
    assert notes.count(LocalRunner(), range(3)) == (1, 3)


def test_a_new_benchmark_is_compared_with_what_is_stored_and_nothing_else_is_done_again(place, reads):
    run(place, "store")
    hashes = place / "store" / "annotations" / "text_hashes"
    known = sum(pl.read_parquet(file).height for file in hashes.rglob("*.parquet"))
    again = run(place, "store", benchmarks=("mine", "yours"))
    assert (reads["reads"], computed(again)) == (1, {"decontaminate_ngrams": 40})
    assert sum(pl.read_parquet(file).height for file in hashes.rglob("*.parquet")) == known + 1
    assert whole(again) == whole(run(place, "fresh", benchmarks=("mine", "yours")))


def test_kept_files_that_are_damaged_or_gone_are_made_again(place, reads):
    first = run(place, "store")
    files = sorted((place / "store" / "stages").rglob("*.arrow"))
    for file in files[::3]:
        file.write_bytes(file.read_bytes()[:-9] + b"damaged!!")
    files[1].unlink()
    again = run(place, "store", overrides=["assemble.jaccard_threshold=0.95"])
    assert reads["reads"] == 2
    assert again.version.manifest.rows == first.version.manifest.rows
    run(place, "store", overrides=["assemble.jaccard_threshold=0.96"])
    assert reads["reads"] == 2


def test_a_changed_source_is_read_and_a_changed_setting_judged_again(place, reads):
    run(place, "store")
    write_sums(place / "sums.jsonl", 41)
    changed = run(place, "store")
    assert reads["reads"] == 2
    assert whole(changed) == whole(run(place, "fresh"))
    other = run(place, "store", overrides=["steps.dedup_minhash.shingle=3"])
    assert (reads["reads"], computed(other)) == (3, {"dedup_minhash": 41})  # the third one is that of the fresh store


def test_rows_with_images_and_rows_of_one_block_are_not_kept(place, monkeypatch):
    images = {"rows": 60, "duplicates": 0, "copies": 0, "renumbered": 0}
    told = "".join(f"{name} = {value}\n" for name, value in images.items())
    (place / "seen.toml").write_text(f'[source]\nreader = "virl39k"\nlocation = "mini"\n[source.mini]\n{told}{STEPS}')
    run(place, "store", "seen")
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 1000)
    run(place, "store")
    assert not (place / "store" / "stages").exists()


def test_gc_removes_what_no_build_used_for_long_and_a_build_makes_it_again(place, reads):
    run(place, "store")
    store = open_store(place / "store")
    assert collect(store)["files"] == 0
    for entry in store.list("stages"):
        os.utime(store.local_path(entry.path), (0, entry.modified - KEPT_SECONDS - 60))
    assert collect(store)["removed"]
    assert list(store.list("stages")) == []
    assert not (place / "store" / "stages").exists()
    run(place, "store", overrides=["assemble.jaccard_threshold=0.95"])
    assert reads["reads"] == 2


ALL = ["verify_answers", "decontaminate_ngrams", "dedup_minhash"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Our code in a folder of its own, to be edited; each build takes itself for one of other code."""
    for name in ("data_engine", "shared"):
        away = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(stage_code.ROOT / name, tmp_path / "tree" / name, ignore=away)
    monkeypatch.setattr(stage_code, "ROOT", tmp_path / "tree")
    hashes = itertools.count()
    monkeypatch.setattr(inputs, "code_hash", lambda: str(next(hashes)))
    return tmp_path / "tree"


def edit(file):
    with file.open("a") as end:
        end.write("\n# edited\n")


def test_an_edit_of_a_page_costs_nothing_and_one_of_a_step_that_step(place, reads, tree, monkeypatch):
    ran, step = [], step_blocks.run_step
    monkeypatch.setattr(step_blocks, "run_step", lambda name, *given: ran.append(name) or step(name, *given))
    first = run(place, "store")
    assert (reads["reads"], ran) == (1, ALL)
    edit(tree / "data_engine/sharing/preview.py")
    again = run(place, "store")
    assert (again.found, reads["reads"], ran) == (False, 1, ALL)
    edit(tree / "data_engine/steps/decontaminate_ngrams.py")
    more = run(place, "store")
    assert (reads["reads"], ran) == (1, [*ALL, "decontaminate_ngrams"])
    assert first.version.label == again.version.label == more.version.label


def test_the_keys_that_an_edit_changes_are_those_of_the_stages_that_can_run_it(place, tree):
    request = BuildRequest(str(place / "one.toml"), "local", "", benchmarks=[f"mine={place / 'mine.jsonl'}"])
    stages = kept_stages.Stages(open_inputs(resolve(request)), None, None, None, Progress())

    def keys():
        stages.keys = {"rows": stages._source_key(0, conflicts=True)}
        for name in ALL:
            stages.keys[name] = stages._step_key(name, step_module(name).READS)
        return stages.keys

    before, every = keys(), ["rows", *ALL]
    for file, anew in {
        "data_engine/sharing/templates/preview.html": [],
        "data_engine/cli.py": [],
        "data_engine/assemble.py": [],
        "data_engine/sources/deepscaler.py": [],  # no reader of this source
        "shared/vlm/engine.py": [],  # part of the keys of what models said
        "data_engine/steps/caption_leaks.py": [],
        "data_engine/steps/decontaminate_ngrams.py": ["decontaminate_ngrams"],
        "data_engine/sources/benchmarks.py": ["decontaminate_ngrams"],  # reads the items
        "data_engine/duplicates/similar_texts.py": ["dedup_minhash"],
        "data_engine/grading.py": ["verify_answers", "dedup_minhash"],  # the second one reads what the first one found
        "shared/answers/symbolic/worker.py": every,  # started as a process
        "shared/benchmarks/gsm8k.toml": ["decontaminate_ngrams"],  # says how items are read
        "data_engine/sources/table_rows.py": every,
        "data_engine/inputs.py": every,
        "data_engine/kept_stages.py": every,
    }.items():
        whole = (tree / file).read_bytes()
        edit(tree / file)
        assert [name for name, key in keys().items() if key != before[name]] == anew, file
        (tree / file).write_bytes(whole)
    assert keys() == before


def test_every_function_that_runs_in_a_stage_lies_in_a_file_that_its_key_holds(place, monkeypatch):
    held, ran = {}, {}

    def code_of(modules, *, apart=(), alone=()):
        files = stage_code.files_of(modules, apart) | {
            ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in alone
        }
        held.setdefault("source" if not apart else modules[1].rpartition(".")[2], set()).update(files)
        return stage_code.code_of(modules, apart=apart, alone=alone)

    def watched(module, function, name):
        whole = getattr(module, function)

        def watch(*given, **named):
            files = ran.setdefault(name or given[0], set())
            note = lambda frame, *_: files.add(frame.f_code.co_filename)  # noqa: E731
            threading.setprofile(note)
            sys.setprofile(note)
            try:
                return whole(*given, **named)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)

        monkeypatch.setattr(module, function, watch)

    monkeypatch.setattr(kept_stages, "code_of", code_of)
    watched(in_blocks, "ingest_blocks", "source")
    watched(step_blocks, "run_step", "")
    run(place, "store")
    assert ran.keys() == held.keys() == {"source", *ALL}
    packages = {ROOT / "data_engine", ROOT / "shared"}  # and no environment that lies in the checkout
    for name, files in ran.items():
        ours = {file for file in map(Path, files) if not packages.isdisjoint(file.parents)}
        assert len(ours) > 10
        assert ours <= held[name], name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_sixteen_racing_builders_lose_nothing(place, kind, request):
    store = str(place / "store") if kind == "folder" else request.getfixturevalue("bucket_url")
    program = Path(__file__).with_name("builders.py")
    subprocess.run([sys.executable, program, store, str(place), "16"], check=True, timeout=600)
    versions = {version.manifest.recipe["assemble"]["jaccard_threshold"]: version for version in list_datasets(store)}
    assert len(versions) == 16
    assert sorted(int(version.version[1:]) for version in versions.values()) == list(range(1, 17))
    for threshold, version in versions.items():
        assert version.verify().ok
        alone = run(place, "alone", overrides=[f"assemble.jaccard_threshold={threshold}"])
        assert alone.version.manifest.fingerprint == version.manifest.fingerprint
    more = BuildRequest(str(place / "one.toml"), "local", store, benchmarks=[f"mine={place / 'mine.jsonl'}"], limit=30)
    assert computed(build(more, Progress())) == {}, "a cell that a builder had stored was lost"


@pytest.fixture
def bucket_url():
    pytest.importorskip("moto")
    from benchmarks.s3_server import s3_server

    with s3_server() as url:
        yield f"{url}/raced"
