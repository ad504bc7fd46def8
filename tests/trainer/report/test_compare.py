"""`trainer compare`: two results item by item, counts, the exact test, and the page."""

import io
import json
import re

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from shared.errors import InfiMmrError
from trainer.evaluation.items import load_items
from trainer.evaluation.run import evaluate_outputs
from trainer.evaluation.tasks import benchmark_names
from trainer.report.cli import register
from trainer.report.compare import MOST_SHOWN, compare_runs, page

NASTY = '<script>document.title="owned"</script><img src=x onerror=alert(1)> {{ 7*7 }}'


def invoke(*words):
    app = Typer()
    register(app)
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def result(folder, items, right, words="", benchmark="math500"):
    """A result on `items` of a file, right on those whose number is in `right`."""
    file = folder.with_suffix(".jsonl")
    lines = [{"benchmark": benchmark, "item": str(n),
              "output": f"<think>{words}</think>\\boxed{{{n if n in right else 'x + 91'}}}"}
             for n in range(items)]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)))
    evaluate_outputs(file, sources={benchmark: str(folder.parent / f"{benchmark}.jsonl")}, output=folder)
    return folder


def sums(folder, items, benchmark="math500", question="What is {}?"):
    rows = [{"id": str(n), "problem": question.format(n), "answer": str(n)} for n in range(items)]
    (folder / f"{benchmark}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def pair(tmp_path):
    sums(tmp_path, 12)
    both, first, second = {0, 1}, {2}, {3, 4, 5, 6, 7, 8}
    return result(tmp_path / "a", 12, both | first), result(tmp_path / "b", 12, both | second, NASTY)


def test_items_are_counted_and_the_p_value_is_that_of_the_exact_test(pair):
    shown = invoke(*pair, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    counts = {key: found[key] for key in ("items", "both", "only_first", "only_second", "neither")}
    assert counts == {"items": 12, "both": 2, "only_first": 1, "only_second": 6, "neither": 3}
    assert found["p_value"] == pytest.approx(2 * (1 + 7) / 2**7)  # two-sided binomial test of 1 in 7
    assert found["difference"] == pytest.approx(5 / 12)
    assert found["benchmarks"]["math500"]["test"] == "McNemar"
    again = json.loads(invoke(*reversed(pair), "--json").stdout)
    assert (again["only_first"], again["only_second"], again["p_value"]) == (6, 1, found["p_value"])


def test_tasks_named_are_compared_alone_by_name_or_by_the_path_of_their_file(tmp_path):
    (tmp_path / "mine.toml").write_text('title = "Mine"\n[source]\nlocation = "mine.jsonl"\n')
    sums(tmp_path, 6, "mine")
    sums(tmp_path, 4, "math500")
    folders = []
    for name, right in (("a", {0, 1}), ("b", {1, 2, 3})):
        lines = [
            {"benchmark": task, "item": str(n), "output": f"\\boxed{{{n if n in right else 91}}}"}
            for task, count in (("mine", 6), ("math500", 4))
            for n in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        sources = {"math500": str(tmp_path / "math500.jsonl")}
        tasks = f"math500,{tmp_path / 'mine.toml'}"
        evaluate_outputs(tmp_path / f"{name}.jsonl", tasks, sources=sources, output=tmp_path / name)
        folders.append(tmp_path / name)
    assert json.loads(invoke(*folders, "--json").stdout)["items"] == 10
    for word in (tmp_path / "mine.toml", "mine"):
        found = json.loads(invoke(*folders, "--task", word, "--json").stdout)
        assert (found["items"], list(found["benchmarks"])) == (6, ["mine"])
    assert (found["both"], found["only_first"], found["only_second"]) == (1, 1, 2)
    refused = invoke(*folders, "--task", "mathvista")
    assert refused.exit_code == 1
    assert "share no scored item of mathvista (they do of math500, mine)" in refused.stderr


def test_images_of_a_task_of_ones_own_are_asked_for_by_its_file(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text('[source]\nlocation = "mine.jsonl"\n')
    sums(tmp_path, 3, "mine")
    benchmark_names(str(tmp_path / "mine.toml"))
    folders = [result(tmp_path / name, 3, right, benchmark="mine") for name, right in (("a", {0}), ("b", {1}))]
    monkeypatch.setattr("trainer.evaluation.tasks._OWN", {})  # another command, which was not told of the file
    assert "its task file was not named: --task mine.toml" in page(compare_runs(*folders), folders[0], {}, None)


def test_people_read_a_table_on_stderr_and_where_the_page_is(pair, tmp_path):
    shown = invoke(*pair, "--html", tmp_path / "page.html")
    assert shown.stdout == ""
    assert "MATH500" in shown.stderr
    assert "+41.67" in shown.stderr
    assert f"page: {tmp_path / 'page.html'}" in shown.stderr.replace("\n", "")


def test_the_page_shows_won_and_lost_items_with_both_outputs_and_runs_nothing_of_a_model(pair, tmp_path):
    assert invoke(*pair, "--html", tmp_path / "page.html").exit_code == 0
    text = (tmp_path / "page.html").read_text()
    won, lost = text.split('id="only_second"')[1].split('id="only_first"')
    assert (won.count("<article"), lost.count("<article")) == (6, 1)
    assert "What is 3?" in won
    assert "What is 2?" in lost
    assert won.count("x + 91") == 12
    assert "<script" not in text
    assert f"{tmp_path.name}/a → {tmp_path.name}/b" in text
    assert str(tmp_path) not in text
    assert "&lt;script&gt;" in text
    assert "{{ 7*7 }}" in text
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)


def test_pictures_come_from_the_named_file_and_only_where_it_holds_the_same_items(tmp_path):
    (tmp_path / "images").mkdir()
    for n in range(2):
        data = io.BytesIO()
        Image.new("RGB", (40, 30), (0, 90 * n, 200)).save(data, "png")
        (tmp_path / f"images/{n}.png").write_bytes(data.getvalue())
    rows = [{"id": str(n), "question": f"<image1>What is {n}?", "answer": str(n), "options": [],
             "image": f"images/{n}.png"} for n in range(2)]  # fmt: skip
    source = tmp_path / "mathvision.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    first = result(tmp_path / "a", 2, {0}, benchmark="mathvision")
    second = result(tmp_path / "b", 2, {1}, benchmark="mathvision")
    found, store = compare_runs(first, second), str(tmp_path / "store")
    shown = page(found, first, {"mathvision": str(source)}, store)
    assert shown.count('<img src="data:image/png;base64,') == 2
    absent = page(found, first, {}, store)
    assert "image not at hand" in absent
    assert "--source mathvision=PATH" in absent
    source.write_text(source.read_text().replace("What is 1", "What was 1"))
    assert "holds other items than were asked" in page(found, first, {"mathvision": str(source)}, store)


def test_pictures_come_from_the_dataset_version_that_the_results_name(mini_store, tmp_path):
    items = load_items("mathverse", None, mini_store, images=False).items[:6]
    for name, output in (("a", "\\boxed{{{}}}"), ("b", "I do not know")):
        lines = [{"benchmark": "mathverse", "item": i.key, "output": output.format(i.answer)} for i in items]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        evaluate_outputs(tmp_path / f"{name}.jsonl", store=mini_store, output=tmp_path / name)
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found.document()["only_first"] == 6
    assert page(found, tmp_path / "a", {}, mini_store).count('<img src="data:image/') == 6


def test_a_long_list_is_cut_and_the_rest_counted(tmp_path):
    more = MOST_SHOWN + 5
    sums(tmp_path, more)
    first, second = result(tmp_path / "a", more, set()), result(tmp_path / "b", more, set(range(more)))
    text = page(compare_runs(first, second), first, {}, str(tmp_path / "store"))
    assert text.count("<article") == MOST_SHOWN
    assert "200 are shown, 5 more are left out" in text


def test_items_asked_otherwise_are_no_pairs(tmp_path):
    sums(tmp_path, 4)
    first = result(tmp_path / "a", 4, {0, 1, 2, 3})
    sums(tmp_path, 4, question="How much is {}?")
    second = result(tmp_path / "b", 4, set())
    with pytest.raises(InfiMmrError, match="share no scored item"):
        compare_runs(first, second)


def test_what_holds_no_outputs_is_one_line_that_names_what_does(pair, tmp_path):
    for words, says in [
        ((tmp_path / "nowhere", pair[1]), "does not exist"),
        ((tmp_path, pair[1]), f"Name one of: {pair[0]}, {pair[1]}"),
        ((pair[0], pair[0]), "are the same results"),
    ]:
        shown = invoke(*words)
        assert shown.exit_code == 1
        assert says in shown.stderr
        assert shown.stderr.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert "trainer evaluate" in invoke(tmp_path / "empty", pair[0]).stderr
    (pair[1] / "outputs.parquet").write_bytes(b"PAR1 no table PAR1")
    shown = invoke(*pair)
    assert "is not a file of `trainer evaluate`" in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_a_checkpoint_in_an_evaluated_run_folder_stands_for_it(pair):
    (pair[0] / "checkpoint").mkdir()
    (pair[0] / "checkpoint/config.json").write_text("{}")
    assert compare_runs(pair[0] / "checkpoint", pair[1]).document()["items"] == 12
    assert pq.read_table(pair[0] / "outputs.parquet").num_rows == 12
