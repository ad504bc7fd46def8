"""A phase becomes OpenRLHF arguments: golden files, and OpenRLHF's own parser accepts every one of them.

Write the golden files anew after a deliberate change: `python tests/trainer/test_arguments.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import InfiMmrError
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.phase import load_phase, phase_names

GOLDEN = Path(__file__).with_name("golden")
PATHS = RunPaths("RUN/prompts.jsonl", "PARENT", "RUN/ckpt", "RUN/weights", "RUN/tensorboard")
CASES = [(name, profile) for name in phase_names() for profile in ("full", "local")]
ROLLED_OUT = [case for case in CASES if case[0] != "cold-start"]


def arguments_of(name, profile, overrides=(), *, resume=False, images=1):
    phase = load_phase(name, profile, list(overrides))
    return openrlhf_arguments(
        phase,
        PATHS,
        PromptFacts(640, 0 if name == "fra" else images),
        device="cuda" if profile == "full" else "cpu",
        resume=resume,
        agent="AGENT.py",
    )


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_arguments_are_those_of_the_golden_file(name, profile):
    golden = json.loads((GOLDEN / f"arguments-{name}-{profile}.json").read_text())
    assert arguments_of(name, profile) == golden


@pytest.mark.parametrize("profile", ["full", "local"])
@pytest.mark.parametrize("name", ["fra", "cmra", "mre"])
def test_openrlhfs_own_parser_reads_the_papers_algorithm(name, profile):
    parsed = parse_with_openrlhf(arguments_of(name, profile))
    assert parsed.algo.advantage.estimator == "group_norm"
    assert parsed.actor.policy_loss_type == "ppo"
    assert tuple(parsed.actor.eps_clip_low_high) == (0.2, 0.2)
    assert parsed.algo.kl.use_loss
    assert parsed.algo.kl.estimator == "k3"
    assert parsed.actor.loss_agg_mode == "seq-mean-token-mean"


NEWER = {
    "mre-dapo": ((0.2, 0.28), "group_norm", "ppo", True),
    "mre-dr-grpo": ((0.2, 0.2), "dr_grpo", "ppo", False),
    "mre-gspo": ((3e-4, 4e-4), "group_norm", "gspo", False),
}
"""Clipping range, advantages, policy loss and dynamic filtering of the phases that newer work adds."""


@pytest.mark.parametrize("profile", ["full", "local"])
@pytest.mark.parametrize("name", NEWER)
def test_openrlhfs_own_parser_takes_the_phases_of_newer_work(name, profile):
    parsed = parse_with_openrlhf(arguments_of(name, profile))
    read = (parsed.algo.advantage.estimator, parsed.actor.policy_loss_type, parsed.algo.dynamic_filtering_enable)
    assert (tuple(parsed.actor.eps_clip_low_high), *read) == NEWER[name]
    assert load_phase(name, profile).data == load_phase("mre", profile).data


@pytest.mark.parametrize("profile", ["full", "local"])
def test_openrlhfs_own_parser_of_supervised_fine_tuning_takes_the_cold_start(profile):
    phase = load_phase("cold-start", profile)
    parsed = parse_with_openrlhf(arguments_of("cold-start", profile, resume=True), "sft")
    assert (parsed.data.input_key, parsed.data.output_key, parsed.data.apply_chat_template) == (
        "prompt",
        "response",
        False,
    )
    assert not parsed.data.input_template  # else "User:" would stand before each prompt
    assert parsed.data.max_samples == 640
    assert (parsed.train.batch_size, parsed.train.max_epochs) == (phase.train.batch_size, 1)
    assert (parsed.adam.lr, parsed.adam.weight_decay) == (phase.train.learning_rate, 0.0)
    assert parsed.ds.attn_implementation == phase.cluster.attention
    assert parsed.ckpt.load_enable
    assert not parsed.ds.packing_samples
    with pytest.raises(InfiMmrError, match="OpenRLHF refuses"):
        parse_with_openrlhf(arguments_of("fra", profile), "sft")


@pytest.mark.parametrize(("name", "profile"), ROLLED_OUT)
def test_openrlhfs_own_parser_accepts_every_shipped_phase(name, profile):
    parsed = parse_with_openrlhf(arguments_of(name, profile))
    assert parsed.critic.model_name_or_path is None
    assert not parsed.ds.packing_samples
    assert parsed.reward.remote_url == ["agent"]
    assert parsed.train.colocate_all


def test_openrlhf_reads_the_papers_numbers_in_the_full_profile():
    parsed = parse_with_openrlhf(arguments_of("mre", "full"))
    assert parsed.actor.adam.lr == 1e-6
    assert parsed.train.batch_size == 256
    assert parsed.rollout.batch_size == 256
    assert parsed.rollout.n_samples_per_prompt == 16
    assert parsed.vllm.num_engines == 16
    assert parsed.vllm.enable_sleep
    assert parsed.ds.enable_sleep


def test_without_cuda_one_pretended_gpu_gloo_and_plain_attention():
    parsed = parse_with_openrlhf(arguments_of("mre", "local"))
    assert parsed.vllm.sync_backend == "gloo"
    assert parsed.vllm.enforce_eager
    assert parsed.ds.attn_implementation == "eager"
    assert (parsed.actor.num_nodes, parsed.actor.num_gpus_per_node, parsed.vllm.num_engines) == (1, 1, 1)
    assert not parsed.vllm.enable_sleep


def test_a_resumed_run_loads_its_states_and_a_new_one_does_not():
    assert parse_with_openrlhf(arguments_of("fra", "local", resume=True)).ckpt.load_enable
    assert not parse_with_openrlhf(arguments_of("fra", "local")).ckpt.load_enable


def test_wandb_is_off_unless_a_project_is_named():
    assert parse_with_openrlhf(arguments_of("fra", "local")).logger.wandb.key is None
    named = parse_with_openrlhf(arguments_of("fra", "local", ["logging.wandb_project=infi"]))
    assert named.logger.wandb.project == "infi"
    assert named.logger.tensorboard_dir == "RUN/tensorboard"


def test_pictures_of_a_prompt_set_the_engines_limit():
    assert parse_with_openrlhf(arguments_of("mre", "local", images=4)).data.max_images_per_prompt == 4
    assert parse_with_openrlhf(arguments_of("fra", "local")).data.max_images_per_prompt == 0


def test_what_openrlhf_refuses_is_told_in_its_words_before_anything_starts():
    good = arguments_of("mre", "local")
    with pytest.raises(InfiMmrError, match="no-such-flag"):
        parse_with_openrlhf([*good, "--no-such-flag"])
    with pytest.raises(InfiMmrError, match="packing_samples"):
        parse_with_openrlhf([*good, "--ds.packing_samples"])


def test_parsing_leaves_no_trace_in_this_process():
    import sys

    before = list(sys.argv)
    parse_with_openrlhf(arguments_of("mre", "local"))
    assert sys.argv == before
    assert "openrlhf.utils.config" not in sys.modules


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        text = json.dumps(arguments_of(*case), indent=0)
        (GOLDEN / f"arguments-{case[0]}-{case[1]}.json").write_text(text + "\n")
