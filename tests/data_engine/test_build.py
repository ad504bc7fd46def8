"""Builds without a model: recipes whose steps need none, so that each takes a few seconds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from data_engine.build import BuildRequest, build
from data_engine.grading import grader_hash
from data_engine.inputs import ROOT, code_hash
from data_engine.intake import in_blocks
from data_engine.plan import plan_build
from data_engine.runners.local import LocalRunner
from data_engine.sources.mini import Mini, MiniSettings
from shared.dataset_version import list_datasets, open_dataset
from shared.errors import InfiMmrError
from shared.fingerprint import file_hash
from shared.progress import Progress

RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 24
duplicates = 4
copies = 1
renumbered = 1
[steps.verify_answers]
[steps.decontaminate_ngrams]
planted_duplicates = 2
[steps.dedup_minhash]
"""
BENCHMARKS = "".join(
    f'[benchmarks.{name}]\nlocation = "mini"\nrows = 6\n'
    for name in ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")
)


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(RECIPE + BENCHMARKS)
    return str(file)


def run(recipe, store, **options):
    return build(BuildRequest(recipe=recipe, profile="local", store=str(store), **options), Progress())


def hashes(report):
    return {file.name: file_hash(file) for file in sorted(report.version.path.iterdir()) if file.suffix != ".json"}


def test_two_builds_into_two_empty_stores_are_the_same_bytes(recipe, tmp_path):
    one, two = run(recipe, tmp_path / "one"), run(recipe, tmp_path / "two")
    assert hashes(one) == hashes(two)
    assert one.version.manifest.fingerprint == two.version.manifest.fingerprint
    assert not one.found
    assert not two.found


def test_workers_end_before_the_scratch_that_they_write_to_goes(recipe, tmp_path, monkeypatch):
    ended = []

    def close(_):
        ended.append(len(list((tmp_path / "store" / "scratch").glob("build-*"))))

    monkeypatch.setattr(LocalRunner, "close", close)
    run(recipe, tmp_path / "store")
    assert ended[0] == 1, "the scratch of the build still lies there"


def test_rows_in_many_blocks_and_buckets_give_the_same_bytes(recipe, tmp_path, monkeypatch):
    one = run(recipe, tmp_path / "one", overrides=["shards.shard_megabytes=1"])
    for name, rows in (("blocks.BLOCK_ROWS", 3), ("intake.in_blocks.PART_ROWS", 5), ("intake.in_blocks.GROUP_ROWS", 1)):
        monkeypatch.setattr(f"data_engine.{name}", rows)
    monkeypatch.setattr("data_engine.steps.dedup_minhash.GROUP_ROWS", 2)
    many = run(recipe, tmp_path / "many", overrides=["shards.shard_megabytes=1"])
    assert hashes(one) == hashes(many)
    assert one.version.manifest.fingerprint == many.version.manifest.fingerprint
    for part in ("planted_duplicates", "decontamination", "warnings", "rejected", "near_misses"):
        assert getattr(one.version.manifest, part) == getattr(many.version.manifest, part)


LINES = """
[sources.sums]
reader = "table"
location = "sums.jsonl"
[sources.some]
reader = "table"
location = "some.csv"
weight = 0.5
[steps.verify_answers]
[steps.dedup_minhash]
"""


def test_formats_that_do_not_say_how_many_rows_they_hold_make_as_many_blocks_as_others(tmp_path, monkeypatch):
    read, ingest_blocks = [], in_blocks.ingest_blocks

    def noted(*given, **named):
        found = ingest_blocks(*given, **named)
        read.append(found.rows.heights)
        return found

    monkeypatch.setattr(in_blocks, "ingest_blocks", noted)
    rows = [
        {"id": n, "question": f"What is {n % 70} + {n // 70}?", "answer": str(n) if n % 9 else ""} for n in range(80)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[1], rows[1]]))
    pl.DataFrame(rows).with_columns(pl.col("question") + " Now?").write_csv(tmp_path / "some.csv")
    (tmp_path / "lines.toml").write_text(LINES)
    one = run(str(tmp_path / "lines.toml"), tmp_path / "one")
    monkeypatch.setattr(in_blocks, "PART_ROWS", 16)
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 16)
    many = run(str(tmp_path / "lines.toml"), tmp_path / "many")
    assert hashes(one) == hashes(many)
    assert one.version.manifest.fingerprint == many.version.manifest.fingerprint
    few = run(str(tmp_path / "lines.toml"), tmp_path / "few", limit=3)
    assert few.version.manifest.counts[0].rows_in == 6
    assert [len(heights) for heights in read] == [1, 8, 1]
    assert max(read[1]) < 32


def test_a_limit_above_what_a_source_holds_makes_no_blocks_of_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 100)
    told, blocks_for = [], in_blocks.blocks_for
    monkeypatch.setattr(in_blocks, "blocks_for", lambda rows: told.append(blocks_for(rows)) or told[-1])
    run(recipe, tmp_path / "store", limit=10**6)
    assert set(told) == {1}


def test_damaged_annotations_are_named_and_made_again(recipe, tmp_path):
    first = run(recipe, tmp_path / "store")
    segments = [file for file in (tmp_path / "store" / "annotations").rglob("*.parquet") if "findings" not in str(file)]
    for file in segments:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :])
    second = run(recipe, tmp_path / "store", overrides=["assemble.cosine_near=0.91"])
    assert not second.found
    assert hashes(second) == hashes(first)
    told = [warning for warning in second.version.manifest.warnings if "was damaged" in warning]
    assert 4 <= len(told) <= len(segments)


def test_a_second_build_finds_the_version_and_reads_no_row(recipe, tmp_path, monkeypatch):
    first = run(recipe, tmp_path / "store")
    monkeypatch.setattr("data_engine.intake.ingest.ingest", lambda *_, **__: pytest.fail("nothing is read again"))
    second = run(recipe, tmp_path / "store")
    assert second.found
    assert second.version.manifest == first.version.manifest
    assert sum(step.computed for step in second.steps) == 0
    assert [step.name for step in second.steps] == [step.name for step in first.steps]


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("data_engine/steps/dedup_minhash.py", True),
        ("shared/answers/parse/words.py", True),
        ("shared/laptop/problems/charts.py", True),
        ("shared/benchmarks/aime24.toml", True),  # its splits say which items there are
        ("shared/vlm/engine.py", False),  # its cells have keys of their own
        ("shared/laptop/training/train.py", False),  # the checkpoint that it made has one
    ],
)
def test_a_version_made_by_other_code_is_not_taken_for_todays(tmp_path, file, again):
    for package in ("data_engine", "shared"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    answers = tmp_path / "shared" / "answers"
    before, grader = code_hash(tmp_path), grader_hash(answers)
    with (tmp_path / file).open("a") as code:
        code.write("\n# another line\n")
    code_hash.cache_clear()
    grader_hash.cache_clear()
    assert (code_hash(tmp_path) != before) is again
    assert (grader_hash(answers) != grader) is (answers in (tmp_path / file).parents), "golds are judged again"


def test_the_json_of_build_has_exactly_the_agreed_keys(recipe, tmp_path):
    report = run(recipe, tmp_path / "store").as_json()
    assert list(report) == [
        "dataset", "version", "label", "profile", "rows", "rejected", "bytes", "shards", "path", "fingerprint",
        "seconds", "steps",
    ]  # fmt: skip
    assert (report["dataset"], report["version"], report["label"]) == ("small", "v1", "small@v1 (local)")
    for step in report["steps"]:
        assert list(step) == ["name", "rows_in", "rows_out", "computed", "reused", "seconds"]
    folder = tmp_path / "store" / "datasets" / "small" / "v1"
    assert report["path"] == str(folder)
    assert (folder / "manifest.json").is_file()
    assert len(list(folder.glob("*.parquet"))) == report["shards"]
    json.dumps(report)


def test_rows_in_are_rows_kept_and_rows_in_the_ledger(recipe, tmp_path):
    report = run(recipe, tmp_path / "store")
    manifest = report.version.manifest
    ledger = report.version.ledger()
    removed = ledger.filter(pl.col("removed"))
    records = report.steps[0].rows_in
    assert records == 24 + 4 + 5 + 2
    assert records == manifest.rows + removed.height == manifest.rows + manifest.rejected
    assert removed["id"].is_unique().all()
    for before, after in zip(report.steps, report.steps[1:], strict=False):
        assert before.rows_out == after.rows_in
    assert report.steps[-1].rows_out == manifest.rows


def test_everything_planted_is_found_and_lookalikes_stay(recipe, tmp_path):
    version = run(recipe, tmp_path / "store").version
    kept = version.scan().collect()
    kept_keys = set(kept["source_id"])
    removed = {entry["source_id"]: entry for entry in version.ledger().filter(pl.col("removed")).iter_rows(named=True)}
    for name in ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista"):
        entry = removed[f"from-mini-{name}-0"]
        assert (entry["step"], entry["benchmark"], entry["item"]) == ("decontaminate_ngrams", name, f"mini-{name}-0")
    for name in ("math500", "olympiadbench"):
        assert removed[f"from-mini-{name}-1"]["rule"] == "numbers_removed"
    for number in range(4):
        key = f"mini-virl39k-{number * 7}"
        assert len({key, f"{key}-again-{number}"} & kept_keys) == 1, "one of the two stays"
    drawn = {f"mini-virl39k-{number}" for number in range(24)}
    wrongly = {key for key in drawn & set(removed) if removed[key]["step"] != "dedup_minhash"}
    assert not wrongly
    words = kept.with_columns(pl.col("question").str.replace_all(r"\s+", " ")).group_by("question").len()
    assert words["len"].max() >= 1


def test_adding_a_benchmark_compares_only_against_it(recipe, tmp_path):
    first = run(recipe, tmp_path / "store")
    items = [
        {"id": f"n{n}", "question": f"A new problem about {n} hens and the eggs of {n} days?", "answer": "1"}
        for n in range(5)
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, items)))
    second = run(recipe, tmp_path / "store", benchmarks=[f"new={tmp_path / 'new.jsonl'}"])
    steps = {step.name: step for step in second.steps}
    before = {step.name: step for step in first.steps}
    assert steps["verify_answers"].computed == 0
    assert steps["decontaminate_ngrams"].reused == before["decontaminate_ngrams"].computed
    assert 0 < steps["decontaminate_ngrams"].computed <= before["decontaminate_ngrams"].computed / 5
    assert second.version.version == "v2"
    assert "new" in second.version.manifest.decontamination


def test_changing_a_threshold_computes_nothing_anew(recipe, tmp_path):
    run(recipe, tmp_path / "store")
    second = run(recipe, tmp_path / "store", overrides=["assemble.remove_overlaps=false"])
    assert not second.found
    assert sum(step.computed for step in second.steps) == 0
    assert second.version.manifest.rows > 0


def test_the_manifest_names_no_path_of_this_machine(recipe, tmp_path):
    report = run(recipe, tmp_path / "store")
    text = (report.version.path / "manifest.json").read_text()
    assert str(tmp_path) not in text
    manifest = json.loads(text)
    assert [entry["name"] for entry in manifest["inputs"]] == [
        "virl39k", "math500", "mathverse", "mathvision", "olympiadbench", "mathvista",
    ]  # fmt: skip
    assert manifest["decontamination"]["math500"]["decontaminate_ngrams"]["items"] == 6


def test_nothing_but_the_version_and_annotations_is_left_in_the_store(recipe, tmp_path):
    run(recipe, tmp_path / "store")
    left = {path.relative_to(tmp_path / "store").parts[0] for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert left == {"annotations", "blobs", "datasets"}


def test_a_build_that_needs_no_model_starts_none(recipe, tmp_path, monkeypatch):
    from shared.vlm.room import engine_starts

    monkeypatch.setattr(LocalRunner, "ask", lambda *_, **__: pytest.fail("a model was asked"))
    before = engine_starts()
    run(recipe, tmp_path / "store")
    assert engine_starts() == before


def test_text_only_duplicates_with_another_picture_survive(real_data, tmp_path):
    folder = tmp_path / "blink"
    folder.mkdir()
    rows = pl.read_parquet(real_data / "virl_like" / "virl_like.parquet")
    some = (
        rows.filter(pl.col("source").is_in(["blink_jigsaw", "nlvr"])).group_by("source", maintain_order=True).head(40)
    )
    some.write_parquet(folder / "39Krelease.parquet")
    (tmp_path / "real").symlink_to(real_data / "virl_like" / "images")
    (folder / "images").mkdir()
    for names in some["image"]:
        for name in names:
            (folder / name).write_bytes((real_data / "virl_like" / name).read_bytes())
    recipe = tmp_path / "looks.toml"
    recipe.write_text('[source]\nreader = "virl39k"\nlocation = "x"\n[steps.verify_answers]\n[steps.dedup_minhash]\n')
    version = run(str(recipe), tmp_path / "store", source=str(folder)).version
    kept = version.scan().select("source", "question", "image_hashes").collect()
    jigsaw = kept.filter(pl.col("source") == "blink_jigsaw")
    distinct = some.filter(pl.col("source") == "blink_jigsaw")["question"].n_unique()
    assert jigsaw["question"].n_unique() == distinct
    assert jigsaw.height == 40, "one text, forty puzzles"


@pytest.mark.parametrize("kind", ["file", "unwritable"])
def test_a_store_that_cannot_be_used_is_one_clear_line(recipe, tmp_path, kind):
    place = tmp_path / "store"
    place.write_text("not a folder")
    if kind == "unwritable":
        place = tmp_path / "store" / "below"
    with pytest.raises(InfiMmrError) as caught:
        run(recipe, place)
    assert "\n" not in str(caught.value)
    assert "recipe small" in str(caught.value)
    assert caught.value.next_step


def test_no_space_left_is_one_clear_line_and_leaves_no_version(recipe, tmp_path, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data_engine.assemble_blocks.write_shard", full)
    with pytest.raises(InfiMmrError, match=r"recipe small, shards: No space left on device\. Free some space"):
        run(recipe, tmp_path / "store")
    assert list_datasets(tmp_path / "store") == []
    assert not (tmp_path / "store" / "scratch").exists()


@pytest.mark.parametrize("written", ["write_shard", "write_ledger"])
def test_what_a_worker_writes_has_its_name_only_once_it_is_whole(recipe, tmp_path, monkeypatch, written):
    """A worker whose node was given up may still write: never into what another has written in its place."""
    import data_engine.assemble_blocks as room

    write, places = getattr(room, written), []

    def seen(content, *more):
        write(content, *more)
        places.extend(file for file in more if isinstance(file, Path))
        named = {path.name for path in places[-1].parent.glob("[!.]*.parquet")}
        assert named == (set() if written == "write_shard" else {"small-00000-of-00001.parquet"})

    monkeypatch.setattr(room, written, seen)
    assert run(recipe, tmp_path / "store").version.verify().ok
    assert len(places) == 1


def test_a_source_without_rows_says_so(recipe, tmp_path):
    (tmp_path / "empty.json").write_text("[]")
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n')
    with pytest.raises(InfiMmrError, match="has no records"):
        run(str(own), tmp_path / "store", source=str(tmp_path / "empty.json"))


def test_a_build_that_keeps_no_row_is_refused_with_its_reasons_before_any_work(tmp_path, monkeypatch):
    rows = [{"problem": "x?", "answer": None}, {"problem": "y?", "answer": "N/A"}, {"problem": "", "answer": "1"}]
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n')
    monkeypatch.setattr("data_engine.step_blocks.run_step", lambda *_: pytest.fail("no step may start"))
    with pytest.raises(
        InfiMmrError, match=r"no row is kept \(2 missing_answer, 1 missing_question; for instance 0"
    ) as e:
        run(str(own), tmp_path / "store", source=str(tmp_path / "bad.json"))
    assert "--allow-empty" in e.value.next_step
    assert list_datasets(tmp_path / "store") == []
    with pytest.raises(InfiMmrError, match="2 missing_answer"):
        plan_build(BuildRequest(str(own), "local", str(tmp_path / "s"), source=str(tmp_path / "bad.json")), Progress())


def test_golds_that_nobody_can_match_end_a_build_before_a_model_is_asked(tmp_path):
    words = "Because the river runs to the sea and every stone in it was once part of a mountain, so we have shown it."
    (tmp_path / "bad.json").write_text(json.dumps([{"problem": f"why {n}?", "answer": words} for n in range(3)]))
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n[steps.verify_answers]\n')
    with pytest.raises(InfiMmrError, match=r"no row is kept \(3 verify_answers paragraph"):
        run(str(own), tmp_path / "store", source=str(tmp_path / "bad.json"))


def test_an_empty_version_is_published_where_it_is_asked_for(tmp_path):
    (tmp_path / "bad.json").write_text('[{"problem": "x?", "answer": ""}]')
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n')
    report = run(str(own), tmp_path / "store", source=str(tmp_path / "bad.json"), allow_empty=True)
    assert (report.version.manifest.rows, report.version.manifest.rejected) == (0, 1)
    assert "no row was kept" in report.version.manifest.warnings


def test_plan_counts_conflicting_answers_as_the_build_will(tmp_path):
    (tmp_path / "two.json").write_text(json.dumps([{"problem": "x?", "answer": "1"}, {"problem": "x?", "answer": "2"}]))
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n[assemble]\nremove_conflicts = false\n')
    request = BuildRequest(str(own), "local", str(tmp_path / "store"), source=str(tmp_path / "two.json"))
    plan = plan_build(request, Progress())
    assert (plan["rows"], plan["reasons"]) == (2, {})
    assert build(request, Progress()).version.manifest.rows == 2


def test_rows_of_ones_own_keep_their_name_columns_and_have_no_licence_of_somebody_else(tmp_path):
    rows = [{"prompt_text": f"What is {n} + 1?", "gold": n + 1, "uid": f"u{n}", "subject": "sums"} for n in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = tmp_path / "own.toml"
    own.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\nlicence = "Apache-2.0"\n')
    columns = 'source.columns={question = "prompt_text", answer = "gold", id = "uid"}'
    options = {"source": str(tmp_path / "mine.jsonl"), "overrides": (columns,), "name": "my-sums"}
    manifest = run(str(own), tmp_path / "store", **options).version.manifest
    assert (manifest.name, manifest.licences) == ("my-sums", {})
    assert any("licence" in warning for warning in manifest.warnings)
    kept = open_dataset("my-sums", tmp_path / "store").scan().collect()
    assert sorted(kept["source_id"]) == ["u0", "u1", "u2"]
    assert all(identity.startswith("my-sums-") for identity in kept["id"])
    assert json.loads(kept["extra"][0])["columns"] == {"subject": "sums"}
    stated = run(str(own), tmp_path / "store", **options, licence="CC-BY-NC-4.0").version.manifest
    assert stated.licences == {"my-sums": "CC-BY-NC-4.0"}


def test_a_plan_warns_where_the_bundled_checkpoint_would_caption_pictures_that_it_does_not_know(tmp_path):
    (tmp_path / "rows").mkdir()
    Image.new("RGB", (64, 64), (9, 90, 30)).save(tmp_path / "rows" / "a.png")
    row = {"question": "<image>What?", "answer": "1", "image": "a.png"}
    (tmp_path / "rows" / "rows.jsonl").write_text(json.dumps(row))
    own = tmp_path / "own.toml"
    steps = "[steps.type_images]\n[steps.type_images.engine]\nmodel = 'tiny-vl'\n[steps.caption_images]\n"
    steps += "[steps.caption_images.engine]\nmodel = 'tiny-vl'\n"
    own.write_text(f"[source]\nreader = 'virl39k'\nlocation = 'mini'\n{steps}")
    request = BuildRequest(str(own), "local", str(tmp_path / "store"))
    assert not any("WRONG" in note for note in plan_build(request, Progress())["notes"])
    real = BuildRequest(str(own), "local", str(tmp_path / "store"), source=str(tmp_path / "rows"))
    assert any("captions by tiny-vl are WRONG" in note for note in plan_build(real, Progress())["notes"])
    served = ("steps.caption_images.engine.endpoint='http://127.0.0.1:9/v1'",)
    other = BuildRequest(str(own), "local", str(tmp_path / "store"), source=str(tmp_path / "rows"), overrides=served)
    assert not any("WRONG" in note for note in plan_build(other, Progress())["notes"])


def test_unchanged_files_are_not_read_twice(tmp_path, monkeypatch):
    from data_engine.sources import file_hashes as memory

    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "x.bin"
    file.write_bytes(b"x" * 1000)
    old = file.stat().st_mtime - 100
    os.utime(file, (old, old))
    monkeypatch.setattr(memory, "YOUNG_SECONDS", 0.0)
    first = memory.file_hashes([file])
    monkeypatch.setattr(memory, "_hash", lambda path: pytest.fail(f"{path} was read again"))
    assert memory.file_hashes([file, tmp_path / "absent"]) == first


def test_a_changed_file_is_read_again(tmp_path, monkeypatch):
    from data_engine.sources import file_hashes as memory

    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "YOUNG_SECONDS", 0.0)
    file = tmp_path / "x.bin"
    file.write_bytes(b"a" * 10)
    first = memory.file_hashes([file])
    file.write_bytes(b"b" * 10)
    assert memory.file_hashes([file]) != first


def test_the_published_version_opens_by_name(recipe, tmp_path):
    run(recipe, tmp_path / "store")
    version = open_dataset("small@latest", tmp_path / "store")
    assert version.to_datasets()[0]["images"] is not None
    assert version.verify(images=True).ok


def test_a_build_that_finds_nothing_reads_its_source(recipe, tmp_path, monkeypatch):
    """Where a version is found nothing is read (above): that test must be able to fail."""

    def refused(*_, **__):
        raise InfiMmrError("the source is read")

    monkeypatch.setattr("data_engine.intake.ingest.ingest", refused)
    with pytest.raises(InfiMmrError, match="the source is read"):
        run(recipe, tmp_path / "store")


def test_a_change_that_draws_nothing_otherwise_leaves_the_small_sets_their_revision():
    """Their revision stands in every row: it may move with the drawings, and with nothing else."""

    revisions = {name: Mini(name, MiniSettings(rows=240)).revision for name in ("virl39k", "deepscaler")}
    revisions["traces"] = Mini("deepscaler", MiniSettings(rows=240), traces=True).revision
    assert revisions == {
        "virl39k": "sha256:427c5c8ea1f9fabd",
        "deepscaler": "sha256:491f06acc58246f3",
        "traces": "sha256:02a81c789338517a",
    }


def test_what_the_small_sets_draw_moves_with_their_revision():
    """Where this fails with intent, `DRAWN_BY` gets another value, and these hashes the new ones."""

    def drawn(name, **more):
        told = hashlib.sha256()
        for row in Mini(name, MiniSettings(rows=40), **more).rows():
            pictures = [(image.name, hashlib.sha256(image.data).hexdigest()) for image in row.images]
            words = [row.source_id, row.question, row.answer, row.answer_raw, row.choices]
            told.update(repr([*words, row.category, row.source, row.extra, pictures]).encode())
        return told.hexdigest()[:16]

    seen = {name: drawn(name) for name in ("virl39k", "deepscaler", "math500", "mathvista")}
    assert seen | {"traces": drawn("deepscaler", traces=True)} == {
        "virl39k": "57b0f063840f4b43",
        "deepscaler": "c4489005f7af6924",
        "math500": "a08a2ae725cafa4b",
        "mathvista": "1585e54d91156676",
        "traces": "744244d2949ad834",
    }
