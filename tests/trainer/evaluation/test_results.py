import json
from dataclasses import replace

import pytest
from rich.console import Console

from shared.benchmark import Item
from shared.binomial import exact_interval
from shared.errors import InfiMmrError
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.results import compare, output_rows, read_result, summarise, write_results
from trainer.evaluation.scoring import score
from trainer.evaluation.show import print_document
from trainer.evaluation.tasks import task


def items(count, benchmark="math500"):
    return [Item(benchmark, str(n), f"What is {n}?", str(n), "integer", category="even" if n % 2 == 0 else "odd",
                 extra={"level": n % 3, "answer_raw": str(n)}) for n in range(count)]  # fmt: skip


def scored(entries):
    return score(task(entries[0][0].benchmark), [
        (item, sample, StoredAnswer(text, tokens, 9, truncated=cut, failure=failure))
        for item, sample, text, tokens, cut, failure in entries
    ])  # fmt: skip


def plain(item, text, *, sample=0, tokens=10, cut=False, failure=""):
    return (item, sample, text, tokens, cut, failure)


def test_a_result_has_n_error_unscored_groups_lengths_and_truncation():
    some = items(10)
    entries = [plain(item, f"\\boxed{{{item.key if int(item.key) < 4 else 99}}}") for item in some[:8]]
    entries += [plain(some[8], "", failure="image_missing"), plain(some[9], "I think", cut=True, tokens=50)]
    result = summarise(task("math500"), scored(entries))
    assert (result["n"], result["correct"], result["accuracy"]) == (9, 4, pytest.approx(4 / 9))
    assert result["stderr"] == pytest.approx((4 / 9 * 5 / 9 / 8) ** 0.5)
    assert result["interval95"] == list(exact_interval(4, 9))
    assert (result["unscored"], result["unscored_reasons"]) == (1, {"image_missing": 1})
    assert result["by_kind"]["integer"]["n"] == 9
    assert {name: table["n"] for name, table in result["by_subject"].items()} == {"even": 4, "odd": 5}
    assert set(result["by_level"]) == {"0", "1", "2"}
    assert result["mean_tokens"] == pytest.approx((8 * 10 + 50) / 9)
    assert result["truncation_rate"] == pytest.approx(1 / 9)


def test_what_could_not_be_read_is_told_apart_from_what_is_wrong():
    some = items(4)
    texts = [r"\boxed{0}", r"\boxed{7}", r"\boxed{what a nice day}", "word " * 200]
    entries = scored([plain(item, text) for item, text in zip(some, texts, strict=True)])
    assert [entry.outcome.status for entry in entries] == ["correct", "wrong", "unreadable", "no_answer"]
    result = summarise(task("math500"), entries)
    assert (result["n"], result["correct"], result["unreadable"], result["no_answer"]) == (4, 1, 1, 1)
    (cut,) = scored([plain(some[0], texts[3], cut=True)])
    assert [entry.outcome.reason for entry in (entries[3], cut)] == ["no_final_answer", "truncated"]
    assert {row["status"] for row in output_rows(entries)} == {"correct", "wrong", "unreadable", "no_answer"}
    console = Console(record=True, width=100)
    print_document({"checkpoint": "mine", "benchmarks": {"math500": result}}, console)
    assert "MATH500: 1 answers could not be read" in console.export_text()


def test_the_table_names_its_columns_in_full_and_has_none_for_a_rule_that_no_task_has():
    result = summarise(task("math500"), scored([plain(items(1)[0], r"\boxed{0}")]))
    for found, shown in ((result, False), (result | {"official": {"n": 1, "accuracy": 1.0}}, True)):
        print_document(
            {"checkpoint": "mine", "benchmarks": {"math500": found}}, console := Console(record=True, width=80)
        )
        text = console.export_text()
        assert ("rule*" in text) is shown
        assert "unscored" in text


def test_a_gold_that_cannot_be_read_is_wrong_for_all_but_who_spells_it_and_is_counted():
    odd = Item("math500", "9", "q", "???", "text")
    result = summarise(task("math500"), scored([plain(odd, r"\boxed{5}"), plain(items(1)[0], r"\boxed{0}")]))
    assert (result["n"], result["correct"], result["unread_golds"]) == (2, 1, 1)


def test_drawn_samples_give_avg_and_unbiased_pass_at_k():
    entries = []
    for item in items(2):
        rights = 1 if item.key == "0" else 3
        entries.append(plain(item, f"\\boxed{{{item.key}}}"))
        entries += [plain(item, f"\\boxed{{{item.key if k < rights else 77}}}", sample=k + 1) for k in range(4)]
    samples = summarise(task("math500"), scored(entries))["samples"]
    assert (samples["k"], samples["n"]) == (4, 2)
    assert samples["avg_at_k"] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert samples["pass_at"]["1"] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert samples["pass_at"]["2"] == pytest.approx((1 / 2 + 1.0) / 2)
    assert samples["pass_at"]["4"] == 1.0
    assert samples["avg_at_k_stderr"] == pytest.approx(0.25)  # of 1/4 and 3/4
    assert samples["avg_at_k_interval95"] == pytest.approx([0.5 - 1.96 * 0.25, 0.5 + 1.96 * 0.25])
    assert samples["pass_at_interval95"]["2"] == pytest.approx([0.75 - 1.96 * 0.25, 1.0])
    assert samples["pass_at_interval95"]["4"] == list(exact_interval(2, 2)), "both right: no error is no certainty"


def test_a_sample_that_could_not_be_drawn_is_no_wrong_answer():
    (item,) = items(1)
    entries = [plain(item, r"\boxed{0}"), plain(item, r"\boxed{0}", sample=1), plain(item, r"\boxed{7}", sample=2)]
    entries.append(plain(item, "", sample=3, failure="image_missing"))
    samples = summarise(task("math500"), scored(entries))["samples"]
    assert (samples["k"], samples["avg_at_k"], samples["pass_at"]) == (2, 0.5, {"1": 0.5, "2": 1.0})


def test_mathverse_headline_is_the_mean_of_versions_and_problems_are_clusters():
    versions = ["Text Dominant"] * 4 + ["Vision Only"] * 2
    some = [Item("mathverse", str(n), "q", "1", "integer", extra={
        "problem_version": version, "problem_index": str(n % 4), "question_type": "free-form"})
        for n, version in enumerate(versions)]  # fmt: skip
    entries = [plain(item, r"\boxed{1}" if n < 4 else r"\boxed{2}") for n, item in enumerate(some)]
    result = summarise(task("mathverse"), scored(entries))
    assert result["accuracy"] == 0.5  # not 4 of 6
    assert {name: table["accuracy"] for name, table in result["by_version"].items()} == {
        "Text Dominant": 1.0, "Vision Only": 0.0}  # fmt: skip
    both = [Item("mathverse", str(n), "q", "1", "integer", extra={
        "problem_version": f"version {n // 4}", "problem_index": str(n % 4), "question_type": "free-form"})
        for n in range(8)]  # fmt: skip
    entries = [plain(item, r"\boxed{1}" if n % 4 < 2 else r"\boxed{2}") for n, item in enumerate(both)]
    result = summarise(task("mathverse"), scored(entries))
    assert result["stderr"] == pytest.approx((1 / 12) ** 0.5)  # of two right and two wrong problems, not of eight items


def test_results_are_written_read_and_compared(tmp_path):
    some = items(20)
    folders = []
    for name, good in (("a", 10), ("b", 16)):
        entries = scored([plain(item, f"\\boxed{{{item.key if int(item.key) < good else 99}}}") for item in some])
        document = {"checkpoint": name, "benchmarks": {"math500": summarise(task("math500"), entries)}}
        write_results(tmp_path / name, document, output_rows(entries))
        folders.append(tmp_path / name)
    assert read_result(folders[0])["benchmarks"]["math500"]["accuracy"] == 0.5
    test = compare(*folders)["math500"]
    assert (test["n"], test["only_first"], test["only_second"]) == (20, 0, 6)
    assert test["difference"] == pytest.approx(0.3)
    assert test["p_value"] == pytest.approx(2 / 2**6)
    assert sorted(path.name for path in folders[0].iterdir()) == ["evaluation.json", "outputs.parquet"]


def test_only_scored_first_outputs_are_compared(tmp_path):
    some = items(6)
    for name, greedy, drawn, failure in (("a", 99, 0, ""), ("b", 0, 99, "image_missing")):
        entries = [plain(item, f"\\boxed{{{greedy or item.key}}}") for item in some[:5]]
        entries += [plain(item, f"\\boxed{{{drawn or item.key}}}", sample=1) for item in some[:5]]
        entries.append(plain(some[5], f"\\boxed{{{greedy or 5}}}", failure=failure))
        write_results(tmp_path / name, {"checkpoint": name, "benchmarks": {}}, output_rows(scored(entries)))
    test = compare(tmp_path / "a", tmp_path / "b")["math500"]
    assert (test["n"], test["only_first"], test["only_second"]) == (5, 0, 5)


def test_a_folder_without_results_says_what_to_do(tmp_path):
    with pytest.raises(InfiMmrError, match="Evaluate it first"):
        read_result(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps([1]))
    with pytest.raises(InfiMmrError, match="not a result"):
        read_result(tmp_path)


def test_small_groups_have_an_exact_interval_where_the_standard_error_says_nothing():
    entries = [plain(item, f"\\boxed{{{item.key}}}") for item in items(4)]
    row = summarise(task("math500"), scored(entries))["by_subject"]["even"]
    assert (row["n"], row["accuracy"], row["stderr"]) == (2, 1.0, 0.0)
    assert row["interval95"] == [pytest.approx(0.025**0.5), 1.0]


def test_versions_of_one_problem_count_once_in_the_interval_of_their_group():
    some = [Item("mathverse", str(n), "q", "1", "integer", category="lines", extra={
        "problem_version": f"version {n % 5}", "problem_index": str(n // 5), "question_type": "free-form"})
        for n in range(10)]  # fmt: skip
    row = summarise(task("mathverse"), scored([plain(item, r"\boxed{1}") for item in some]))["by_subject"]["lines"]
    assert (row["n"], row["interval95"][0]) == (10, pytest.approx(0.025**0.5))


def test_items_asked_otherwise_are_no_pairs(tmp_path):
    some = items(6)
    for name, asked in (("a", some), ("b", [Item("math500", i.key, f"{i.question} Now.", i.answer, i.kind)
                                            if i.key in "01" else i for i in some])):  # fmt: skip
        entries = scored([plain(item, f"\\boxed{{{item.key}}}") for item in asked])
        write_results(tmp_path / name, {"checkpoint": name, "benchmarks": {}}, output_rows(entries))
    test = compare(tmp_path / "a", tmp_path / "b")["math500"]
    assert (test["n"], test["other_items"]) == (4, 2)


def test_the_published_rule_stands_beside_ours_on_the_items_that_it_judges():
    some = [Item("mathvision", str(n), "q", "1", "integer") for n in range(6)]
    entries = scored([plain(item, r"\boxed{1}" if n < 3 else r"\boxed{2}") for n, item in enumerate(some)])
    theirs = (True, True, False, True, False, None)
    entries = [replace(entry, official=one) for entry, one in zip(entries, theirs, strict=True)]
    found = summarise(task("mathvision"), entries)["official"]
    assert (found["n"], found["accuracy"], found["only_official"], found["only_strict"]) == (5, 0.6, 1, 1)


def test_the_subset_is_named_in_the_result():
    some = [Item("olympiadbench", str(n), "q", "1", "integer", extra={"subset": f"OE_MM_maths_en_{name}"})
            for n, name in enumerate(("COMP", "COMP", "CEE"))]  # fmt: skip
    result = summarise(task("olympiadbench"), scored([plain(item, r"\boxed{1}") for item in some]))
    assert result["subset"] == "OE_MM_maths_en_CEE, OE_MM_maths_en_COMP"
    assert "subset" not in summarise(task("math500"), scored([plain(items(1)[0], "x")]))
