"""OpenRLHF's lines become events; nothing in them is evaluated."""

from __future__ import annotations

import math

from trainer.openrlhf_bridge.progress import Fatal, Resumed, Stage, Step, Trouble, events, read_step, seconds_left

LINE = (
    "\x1b[36m(PPOTrainer pid=16584)\x1b[0m INFO 11-21 13:16:10 ppo_trainer.py:551] ✨ Global step 12: "
    "{'reward': 0.28125, 'kl': 1.5e-05, 'policy_loss': -0.0, 'actor_grad_norm': nan, 'actor_lr': 4e-05, "
    "'timing/step_total': 4.588469982147217, 'rollout/num_samples': 32.0}\r\n"
)


def test_a_step_line_gives_its_numbers():
    step = read_step(LINE)
    assert step is not None
    assert step.step == 12
    assert step.values["reward"] == 0.28125
    assert step.values["kl"] == 1.5e-05
    assert step.values["timing/step_total"] > 4.5
    assert math.isnan(step.values["actor_grad_norm"])
    assert len(step.values) == 7


def test_other_lines_are_no_step_and_hostile_ones_are_not_evaluated():
    assert read_step("Global step twelve: {}") is None
    step = read_step("Global step 3: {'a': __import__('os').system('true'), 'reward': 1.0}")
    assert step is not None
    assert step.values == {"reward": 1.0}


def test_events_come_in_order_and_each_step_once():
    lines = [
        "2026-11-21 13:08:36,673 INFO worker.py:2012 -- Started a local Ray instance.",
        "Started a local Ray instance.",
        "checkpoint_states: {'episode': 0, 'global_step': 11, 'total_consumed_prompts': 88}",
        LINE,
        LINE,
        "(RolloutRayActor pid=1) RuntimeError: no room",
    ]
    told = list(events(lines))
    assert [type(event) for event in told] == [Stage, Resumed, Step, Trouble]
    assert told[1] == Resumed(11)
    assert told[3] == Trouble("RuntimeError: no room")


def test_an_actor_that_cannot_start_is_fatal_and_its_traceback_is_told():
    lines = [
        "(RolloutRayActor pid=7) Exception raised in creation task: The actor died because of an error raised in ...",
        "(RolloutRayActor pid=7)   File ...",
        "(RolloutRayActor pid=7) ValueError: no such head size",
    ]
    first, second = events(lines)
    assert isinstance(first, Fatal)
    assert second == Trouble("ValueError: no such head size")


def test_time_left_is_the_median_step_times_the_steps_left():
    assert math.isnan(seconds_left([], 5))
    assert seconds_left([30.0, 2.0, 2.0, 3.0], 10) == 30.0
