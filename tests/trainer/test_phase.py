"""Phase files: every one loads, the paper's values are the full defaults, wrong words name the right ones."""

from __future__ import annotations

import tomllib

import pytest

from shared.errors import InfiMmrError, UsageError
from trainer.curriculum import curriculum_names, load_phases, phase_list
from trainer.phase import PHASES, Phase, load_phase, phase_names
from trainer.prompts import messages


@pytest.mark.parametrize("profile", ["full", "local"])
@pytest.mark.parametrize("name", phase_names())
def test_every_shipped_phase_loads_in_both_profiles(name, profile):
    phase = load_phase(name, profile)
    assert phase.name == name
    assert phase.profile_name == profile


@pytest.mark.parametrize("name", ["fra", "cmra", "mre"])
def test_full_profile_has_the_values_of_the_papers_section_5_1(name):
    phase = load_phase(name, "full")
    assert phase.train.learning_rate == 1e-6
    assert phase.train.batch_size == 256
    assert phase.rollout.batch_size == 256
    assert phase.rollout.samples_per_prompt == 16
    assert phase.cluster.nodes * phase.cluster.gpus_per_node == 16
    assert phase.model.start == "Qwen/Qwen2.5-VL-3B-Instruct"
    reward = phase.reward
    assert (reward.format_weight, reward.accuracy_weight) == (0.1, 0.9)
    assert (reward.type_weight, reward.exact_weight) == (0.2, 0.8)
    assert reward.accuracy_mode == "type_exact"
    assert phase.train.loss_aggregation == "seq-mean-token-mean"
    assert phase.train.kl_estimator == "k3"


def test_only_the_second_phase_asks_with_captions_and_only_the_first_without_pictures():
    phases = {name: load_phase(name, "full") for name in ("fra", "cmra", "mre")}
    assert {name: phase.data.captions for name, phase in phases.items()} == {"fra": False, "cmra": True, "mre": False}
    assert phases["fra"].data.images == "none"
    assert phases["cmra"].prompt.question == "question_with_caption"
    assert phases["cmra"].data.dataset == phases["mre"].data.dataset


def test_local_tables_change_sizes_and_the_learning_rate_and_nothing_else():
    sizes = {
        "model": {"start", "revision"},
        "rollout": {"batch_size", "samples_per_prompt", "max_new_tokens", "max_length"},
        "train": {"batch_size", "micro_batch_size", "learning_rate", "max_steps", "gradient_checkpointing"},
        "checkpoint": {"save_every"},
        "cluster": {"nodes", "gpus_per_node", "attention"},  # hardware: what is fast on a CPU
    }
    for name in phase_names():
        table = tomllib.loads((PHASES / f"{name}.toml").read_text())["profile"]["local"]
        assert table.pop("prompts") == "bundled"  # prompts belong to the checkpoint that is named
        for section, values in table.items():
            assert set(values) <= sizes[section], f"{name}: {section}"


def test_256_counts_rollouts_in_an_update_and_prompts_in_a_step():
    phase = load_phase("mre", "full")
    assert phase.update_rollouts == 256
    assert phase.updates_per_step == 16
    by_prompts = load_phase("mre", "full", ["train.batch_unit=prompts"])
    assert by_prompts.update_rollouts == 256 * 16
    assert by_prompts.updates_per_step == 1


def test_steps_are_whole_and_max_steps_wins():
    phase = load_phase("mre", "full")
    assert phase.steps(39_000) == 152
    assert phase.steps(255) == 0
    assert load_phase("mre", "full", ["train.epochs=2"]).steps(39_000) == 304
    short = load_phase("mre", "full", ["train.max_steps=400"])
    assert short.steps(39_000) == 400
    assert short.epochs_needed(39_000) == 3


def test_every_field_says_what_it_means():
    def fields(model, path=""):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from fields(inner, f"{path}{name}.")
            else:
                yield f"{path}{name}", field.description

    for name, description in fields(Phase):
        assert description, name
        assert description.endswith((".", ")")), name


def test_a_wrong_phase_names_the_nearest_one():
    with pytest.raises(UsageError, match="Did you mean mre"):
        load_phase("mree", "local")


def test_a_wrong_key_names_the_nearest_one():
    with pytest.raises(UsageError, match="learning_rate"):
        load_phase("mre", "local", ["train.learningrate=1e-5"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.batch_size=100", "must divide"),
        ("train.micro_batch_size=5", "must divide"),
        ("rollout.max_new_tokens=512", "leave room"),
        ("data.captions=true", "prompt form with captions"),
        ("data.min_pass_rate=0.9", None),
        ("checkpoint.keep=1", "2"),
        ("reward.format_weight=0.5", "sum to 1"),
        ("reward.type_weight=0.5", "sum to 1"),
        ("rollout.temperature=2.5", "0.01 to 2"),
        ("rollout.temperature=0.005", "0.01 to 2"),
        ("rollout.temperature=0", "greater than 0"),
        ("data.dataset=", "data.dataset = ''"),
        ("model.start=", "model.start = ''"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_with_the_reason(override, said):
    overrides = [override] if said else [override, "data.max_pass_rate=0.5"]
    with pytest.raises(InfiMmrError, match=said or "no row can pass") as refused:
        load_phase("mre", "local", overrides)
    assert "{'" not in str(refused.value), "the values that do not fit are named, the whole table is not shown"


@pytest.mark.parametrize(
    ("phase", "overrides", "said"),
    [
        ("mre", ["prompt.system=nosuch"], "unknown prompt 'nosuch'"),
        ("mre", ["prompt.question=reason_system"], r"'reason_system' has no field \{question\}"),
        ("mre", ["prompt.question=question_with_caption"], r"data.captions is False.* has field \{caption\}"),
        ("cmra", ["prompt.question=question"], r"data.captions is True.* has no field \{caption\}"),
    ],
)
def test_a_prompt_that_cannot_serve_is_refused_when_the_phase_is_read(phase, overrides, said):
    with pytest.raises(UsageError, match=said):
        load_phase(phase, "local", overrides)


def test_a_form_of_ones_own_is_known_by_its_fields_and_not_by_its_name(tmp_path):
    mine = tmp_path / "mine.md"
    mine.write_text("{caption}\nAnd now: {question}\n")
    phase = load_phase("cmra", "local", [f'prompt.question="{mine}"'])
    with_caption = messages(phase.prompt, "<image>How many?", 1, ["A chart."], prompts=phase.prompts)
    assert with_caption[-1]["content"][0]["text"] == "A chart.\nAnd now: "
    plain = messages(phase.prompt, "What is 2 + 2?", 0, prompts=phase.prompts)
    assert plain[-1]["content"] == "What is 2 + 2?"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rollout.temperature=0.7", "rollout.temperature has no effect in a supervised phase"),
        ("rollout.batch_size=4", "rollout.batch_size has no effect"),
        ("reward.accuracy_mode=binary", "reward.accuracy_mode has no effect"),
        ("train.kl_coefficient=0.0", "train.kl_coefficient has no effect"),
        ("train.batch_unit=prompts", "train.batch_unit has no effect"),
        ("cluster.sleep=false", "cluster.sleep has no effect"),
        ("cluster.nodes=2", "cluster.nodes must be 1"),
        ("evaluation.every=2", "evaluation.every needs rollouts"),
        ("data.images=any", 'data.images must be "none"'),
        ("model.freeze_vision=true", "model.freeze_vision has no effect"),
        ('data.trace_column=""', "data.trace_column must name"),
        ("train.batch_size=33", "33 traces of an update"),
    ],
)
def test_what_a_supervised_phase_would_not_heed_is_refused_by_its_name(override, said):
    with pytest.raises(InfiMmrError, match=said):
        load_phase("cold-start", "local", [override])


def test_a_phase_without_traces_refuses_their_column():
    with pytest.raises(InfiMmrError, match=r"data.trace_column is for phases with method"):
        load_phase("fra", "local", ["data.trace_column=extra.trace"])


def test_a_step_of_a_supervised_phase_is_one_update_on_its_batch_of_traces():
    phase = load_phase("cold-start", "full")
    assert (phase.rows_per_step, phase.update_rollouts, phase.updates_per_step) == (128, 128, 1)
    assert phase.steps(4000) == 4000 * 2 // 128
    assert phase.rollout.max_new_tokens == load_phase("fra", "full").rollout.max_new_tokens


def test_shipped_curricula_name_known_phases_and_the_ablations_of_the_paper():
    assert phase_list("paper") == ("fra", "cmra", "mre")
    assert phase_list("vision-first")[0] == "mre"
    assert phase_list("cold-start-first") == ("cold-start", *phase_list("paper"))
    assert phase_list("caption-free-second")[:2] == ("fra", "mre")
    for name in curriculum_names():
        assert load_phases(phase_list(name), "local")


def test_a_phase_list_with_an_unknown_phase_names_the_nearest():
    with pytest.raises(UsageError, match="cmra"):
        phase_list("fra,cmraa")


def test_an_override_can_be_for_one_phase():
    fra, mre = load_phases(("fra", "mre"), "local", ["fra:train.max_steps=5", "train.seed=7"])
    assert (fra.train.max_steps, fra.train.seed) == (5, 7)
    assert mre.train.max_steps != 5
    assert mre.train.seed == 7


def test_numbers_follow_the_processor_unless_somebody_chose(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert load_phase("mre", "local").dtype_on("cpu") == "float32"
    assert load_phase("mre", "local", ["train.dtype=bfloat16"]).dtype_on("cpu") == "bfloat16"
    assert load_phase("mre", "full").dtype_on("cuda") == "bfloat16"
    with pytest.raises(UsageError, match="CUDA"):
        load_phase("mre", "full", ["train.dtype=float32"]).dtype_on("cuda")
