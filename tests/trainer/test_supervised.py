"""Traces of a supervised phase: which train, in which form, and what is said of the others."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest

from shared.answers import answer_kind, label_of
from shared.errors import InfiMmrError
from shared.vlm.chat_template import PromptRenderer, opened_thinking
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer import preflight
from trainer.display import step_text
from trainer.next_steps import next_phase
from trainer.phase import load_phase
from trainer.phase_run import PhaseRequest, check_data, run_phase
from trainer.plan import make_plan, plan_text
from trainer.rewards import reward
from trainer.rollouts import RunWriter, read_metrics
from trainer.run_attempt import saved_step
from trainer.show_prompts import prompts_of
from trainer.supervised import fit_trace, traces_of
from trainer.training_data import left_out_text, read_prompt_file, write_prompts

COLUMN = "extra.trace"


def phase_of(*overrides):
    return load_phase("cold-start", "local", ["train.batch_size=4", "train.micro_batch_size=4", *overrides])


def fit(row):
    return fit_trace(row, COLUMN, label_of(row["answer"], row["answer_kind"], row["choices"]))


def row_with(trace, answer="17", kind="integer", choices=()):
    extra = json.dumps({"trace": trace})
    return {"answer": answer, "answer_kind": kind, "choices": list(choices), "extra": extra}


def test_a_trace_in_the_rewards_form_that_ends_in_the_gold_trains_as_it_is():
    trace = "<think>8 + 9 = 17.</think>\nThe answer is \\boxed{17}."
    assert fit(row_with(trace)) == (trace, "")


@pytest.mark.parametrize(
    "solution", ["8 + 9 = <<8+9=17>>17\n#### 17", r"We add: $8 + 9 = \boxed{17}$.", "8 + 9 = 17. The answer is 17."]
)
def test_a_worked_solution_is_put_into_the_form_that_the_reward_wants(solution):
    trace, reason = fit(row_with(solution))
    assert not reason
    assert trace == f"<think>\n{solution}\n</think>\n\n\\boxed{{17}}"
    assert reward(trace, {"gold": "17", "kind": "integer"}).total == 1


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (None, "no_trace"),
        ("  ", "no_trace"),
        ("<think>8 + 9 = 18.</think>\n\\boxed{18}", "trace_wrong"),
        ("8 + 9 = 18\n#### 18", "trace_wrong"),
        ("<think>8 + 9 = 17.\n\\boxed{17}", "trace_form"),
        ("<think></think>\\boxed{17}", "trace_form"),
        ("<think>8 + 9</think>\nDone.", "trace_form"),
    ],
)
def test_a_trace_that_no_reward_would_praise_is_left_out_with_its_reason(trace, reason):
    assert fit(row_with(trace)) == ("", reason)


def test_of_several_traces_the_first_that_is_fit_is_taken():
    right = "<think>8 + 9.</think>\n\\boxed{17}"
    assert fit(row_with(["<think>x</think>\\boxed{1}", right, right + " "])) == (right, "")
    assert fit(row_with(["<think>x</think>\\boxed{1}", "<think>x"])) == ("", "trace_form")


def test_a_trace_is_found_in_a_column_in_json_and_in_a_struct():
    assert traces_of({"answer_raw": "so 3\n#### 3"}, "answer_raw") == ["so 3\n#### 3"]
    assert traces_of({"extra": '{"columns": {"cot": "so 3"}}'}, "extra.columns.cot") == ["so 3"]
    assert traces_of({"given": {"trace": ["a", " ", "b"]}}, "given.trace") == ["a", "b"]
    assert traces_of({"extra": None}, COLUMN) == traces_of({"extra": "no json"}, COLUMN) == []


def test_the_training_file_holds_whole_steps_of_prompts_with_their_responses(mini_store, tmp_path):
    from shared.dataset_version import open_dataset

    phase = phase_of("train.max_steps=3")
    summary = write_prompts(open_dataset("reasoning-traces", mini_store), phase, BUNDLED_FOLDER, tmp_path)
    lines = [json.loads(text) for text in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert len(lines) == summary.rows == 12
    for line in lines:
        assert line["prompt"].endswith("<|im_start|>assistant\n")
        assert line["response"].startswith("<think>")
        assert line["response"].endswith("}<|im_end|>")
        assert reward(line["response"].removesuffix("<|im_end|>"), json.loads(line["label"])).total == 1
    assert summary.left_out["no_trace"] == 10
    assert summary.left_out["trace_wrong"] == 4  # of six every third has none
    said = left_out_text(summary)
    assert "10 without a trace in data.trace_column (first: mini-deepscaler-100011)" in said
    assert "4 whose trace ends in another answer than the gold" in said
    assert read_prompt_file(tmp_path) == summary


def test_thinking_that_a_chat_template_has_opened_is_not_opened_again_by_what_is_learnt(
    mini_store, miniature, tmp_path
):
    from shared.dataset_version import open_dataset

    folder = miniature("qwen3_5")
    phase = phase_of("train.max_steps=3", f"model.start={json.dumps(str(folder))}")
    write_prompts(open_dataset("reasoning-traces", mini_store), phase, folder, tmp_path)
    end = PromptRenderer(folder).end_of_turn
    lines = [json.loads(text) for text in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    for line in lines:
        assert not line["response"][0].isspace()
        whole = opened_thinking(line["prompt"]) + line["response"].removesuffix(end)
        assert reward(whole, json.loads(line["label"])).total == 1
    (shown,) = prompts_of(phase, None, mini_store)["prompts"]
    assert shown["text"].endswith("<think>\n")
    assert "it learns to answer:\n" in shown["note"]
    assert "<think>" not in shown["note"]


def test_the_file_is_the_same_at_every_writing(mini_store, tmp_path):
    from shared.dataset_version import open_dataset

    version = open_dataset("reasoning-traces", mini_store)
    for name in ("a", "b"):
        write_prompts(version, phase_of(), BUNDLED_FOLDER, tmp_path / name)
    assert (tmp_path / "a" / "prompts.jsonl").read_bytes() == (tmp_path / "b" / "prompts.jsonl").read_bytes()


def test_rows_with_pictures_and_traces_too_long_to_be_answers_are_counted(traced, row, publish, tmp_path):
    from shared.dataset_version import open_dataset

    rows = [traced(index) for index in range(4)]
    rows[1]["extra"] = json.dumps({"trace": f"<think>{'3+4=7. ' * 40}</think>\n\\boxed{{{rows[1]['answer']}}}"})
    rows[2]["extra"] = json.dumps({"trace": f"<think>So<|im_end|></think>\n\\boxed{{{rows[2]['answer']}}}"})
    pictured = row("mini-virl39k", 0) | {"extra": json.dumps({"trace": "<think>So.</think>\\boxed{1}"})}
    store = publish(tmp_path / "store", "reasoning-traces", [*rows, pictured])
    phase = phase_of("train.batch_size=1", "train.micro_batch_size=1", "train.epochs=1", "train.max_steps=0")
    summary = write_prompts(open_dataset("reasoning-traces", store), phase, BUNDLED_FOLDER, tmp_path / "run")
    assert summary.left_out == {"pictures": 1, "special_token": 1, "trace_too_long": 1}
    assert "whose trace is longer than rollout.max_new_tokens" in left_out_text(summary)


def test_a_dataset_without_traces_is_refused_before_anything_is_started(mini_store, tmp_path):
    without = phase_of('data.dataset="deepscaler"')
    with pytest.raises(InfiMmrError, match=r"deepscaler@v1 \(local\) has no trace in extra.trace"):
        check_data(PhaseRequest(without, tmp_path, store=mini_store))
    other = phase_of('data.trace_column="solution"')
    with pytest.raises(InfiMmrError, match="has no column solution"):
        check_data(PhaseRequest(other, tmp_path, store=mini_store))


def test_the_plan_says_which_traces_train_and_what_they_take(mini_store):
    plan = make_plan(load_phase("cold-start", "local"), store=mini_store)
    assert plan["counts"]["rows"] == 106
    assert plan["counts"]["traces"] == plan["counts"]["steps"] * 32
    assert "rollouts" not in plan["counts"]
    told = plan_text(plan)
    assert "of 120 rows of reasoning-traces@v1 (local); left out: 10 without a trace" in told
    assert "4 whose trace ends in another answer than the gold" in told
    assert "\ntraces    384, about" in told


def test_a_supervised_phase_plans_neither_reference_nor_vllm(tmp_path):
    plan = make_plan(load_phase("cold-start", "full"), rows=4000, gpu="h100", store=str(tmp_path))
    memory = plan["memory_gib"]
    assert memory["reference"] == 0
    assert not [name for name in memory if "vllm" in name or "sampling" in name]
    assert plan["cluster"]["gpus"] == 8
    assert plan["counts"]["steps"] == 62
    # 5,762 tokens a second and GPU for 8.03 billion weights
    seconds = plan["counts"]["tokens"] * 3_754_622_976 / (5762 * 8 * 8_030_261_248)
    assert plan["hours"] == pytest.approx(seconds / 3600, abs=0.006)


def test_trainer_prompts_shows_what_a_supervised_phase_learns(mini_store):
    (shown,) = prompts_of(load_phase("cold-start", "local"), None, mini_store)["prompts"]
    assert shown["note"].startswith("it learns to answer:\n<think>")
    (without,) = prompts_of(load_phase("cold-start", "local"), "mini-deepscaler-100011", mini_store)["prompts"]
    assert without["note"] == "this row does not train: no_trace"


def test_weights_that_texts_do_not_train_are_not_decayed():
    with pytest.raises(InfiMmrError, match="would shrink the vision tower"):
        preflight.check_architecture(BUNDLED_FOLDER, phase_of("train.weight_decay=0.1"))


def test_a_job_sent_to_a_cluster_is_refused_and_a_cluster_at_hand_is_not_needed(tmp_path):
    phase = phase_of()
    with pytest.raises(InfiMmrError, match="trains on this machine, without Ray"):
        run_phase(PhaseRequest(phase, tmp_path / "run", ray_address="http://127.0.0.1:8265"))
    assert not (tmp_path / "run").exists()
    assert not preflight.without_ray(phase, "auto")
    assert preflight.without_ray(load_phase("fra", "local"), "auto") == "auto"


def test_a_supervised_step_is_told_by_its_loss_and_pace():
    line = {"step": 3, "loss": 0.08881, "grad_norm": 0.474, "tokens": 2555.0, "seconds": 1.7}
    assert step_text(line, 12, math.nan) == "step 3/12  loss 0.0888  gradient 0.47  1.7 s  1,503 tokens/s  - left"


def test_metrics_of_a_supervised_run_are_openrlhfs_under_our_names_without_rollouts(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("")
    writer = RunWriter(tmp_path, supervised=True)
    values = {"loss_mean": 0.5, "gpt_loss": 0.4, "lr": 1e-5, "grad_norm": math.nan, "tokens": 90.0}
    (writer.parts / "trainer-1.jsonl").write_text(json.dumps({"step": 1, "values": values}) + "\n")
    assert len(list(writer.finished())) == 1
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 0.5, "learning_rate": 1e-5, "grad_norm": None, "tokens": 90.0}
    ]
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_state_of_a_supervised_run_is_found_where_openrlhfs_sft_entry_keeps_it(tmp_path):
    assert saved_step(tmp_path) == 0
    (tmp_path / "latest").write_text("global_step8")
    assert saved_step(tmp_path) == 8


def test_the_papers_first_phase_follows_a_cold_start():
    assert next_phase("cold-start") == "fra"
    assert not next_phase("mre")


def test_solutions_of_real_sets_become_traces_or_are_left_out(real_data):
    rows = pl.read_parquet(real_data / "text" / "math500.parquet").to_dicts()
    reasons = []
    for given in rows[:150]:
        kind = answer_kind(given["answer"], [])
        trace, reason = fit(row_with(given["solution"], given["answer"], kind))
        reasons.append(reason)
        assert bool(trace) != bool(reason)
        if trace:
            assert reward(trace, {"gold": given["answer"], "kind": kind}).total == 1
    assert reasons.count("") >= 145
