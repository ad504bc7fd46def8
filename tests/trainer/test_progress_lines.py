"""OpenRLHF's lines become events."""

from __future__ import annotations

import math
from pathlib import Path

from trainer.openrlhf_bridge.progress import Done, Fatal, Stage, Trouble, events, seconds_left


def test_what_was_never_begun_is_no_event_and_trouble_is_told_once_it_is_named():
    lines = [
        "2026-11-21 13:08:36,673 INFO worker.py:2012 -- Started a local Ray instance.",
        "Started a local Ray instance.",
        "checkpoint_states: {'episode': 0, 'global_step': 11, 'total_consumed_prompts': 88}",
        "(RolloutRayActor pid=1) RuntimeError: no room",
    ]
    assert list(events(lines)) == [Stage("importing OpenRLHF"), Trouble("RuntimeError: no room")]


RECORDED = Path(__file__).parent / "recorded" / "openrlhf-start.log"
"""A phase of four steps on two cores, whose operators had never been compiled; bars thinned out."""


def test_a_recorded_start_tells_at_every_moment_what_each_part_does():
    with RECORDED.open() as lines:
        told = [event for event in events(lines) if isinstance(event, Stage)]
    start = [(stage.part, stage.text) for stage in told if not stage.training and not stage.count]
    assert start == [
        ("", "importing OpenRLHF"),
        ("", "starting the processes of vLLM and the policy"),
        ("vLLM", "importing vLLM"),
        ("policy", "preparing DeepSpeed"),
        ("vLLM", "starting the engine's process"),
        ("reference", "preparing DeepSpeed"),
        ("vLLM", "starting the engine"),
        ("vLLM", "loading weights"),
        ("vLLM", "setting up its caches"),
        ("vLLM", ""),
        ("policy", "preparing the optimiser"),
        ("reference", ""),
        ("", "linking vLLM and the policy"),
        ("", "ending the run's processes"),
    ]
    assert Stage("loading weights", "policy", "116/116") in told


def test_a_step_tells_what_it_does_and_how_far_it_is():
    with RECORDED.open() as lines:
        told = list(events(lines))
    first, second, *_ = (number for number, event in enumerate(told) if event == Done())
    step = [f"{event.text} {event.count}".strip() for event in told[first:second] if isinstance(event, Stage)]
    assert step == [
        *(f"sampling rollouts {done}/16" for done in (1, 8, 16)),
        "log-probabilities of the rollouts",
        *(f"updating the policy {done}/4" for done in range(5)),
    ]
    assert [event.text for event in told[-2:]] == ["saving the weights", "ending the run's processes"]


def test_an_engine_that_ray_does_not_know_is_heard_as_well():
    lines = [
        "(RolloutRayActor pid=1) INFO 11-27 23:34:01 [model.py:684] Resolved architecture: Qwen2_5_VL",
        "(EngineCore pid=2) INFO 11-27 23:34:02 [core.py:123] Initializing a V1 LLM engine (v0.29.0) with config: m",
        "(EngineCore pid=2) INFO 11-27 23:34:02 [cpu_model_runner.py:131] Starting to load model m...",
        "(EngineCore pid=2) INFO 11-27 23:34:03 [core.py:368] init engine (profile, create kv cache, warmup) took 1 s",
        "(EngineCore pid=2) init_process_group: master_address=127.0.0.1, master_port=43183, group_name=openrlhf",
    ]
    assert list(events(lines)) == [
        Stage("starting the engine's process", "vLLM"),
        Stage("starting the engine", "vLLM"),
        Stage("loading weights", "vLLM"),
        Stage("", "vLLM"),
        Stage("linking vLLM and the policy"),
    ]


def test_on_a_card_compiling_is_called_compiling():
    vllm = "(RolloutRayActor pid=1) (EngineCore pid=2) INFO 11-27 22:21:38 "
    told = events(
        [
            vllm + "[core.py:123] Initializing a V1 LLM engine (v0.29.0) with config: model='m'",
            vllm + "[model_runner.py:382] Loading model from scratch...",
            "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:00<?, ?it/s]",
            vllm + "[model_runner.py:404] Model loading took 7.1 GiB memory and 2.5 seconds",
            vllm + "[backends.py:1094] Using cache directory: /root/c for vLLM's torch.compile",
            vllm + "[gpu_worker.py:625] Available KV cache memory: 70 GiB",
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|█████     | 10/20 [00:00<00:00, 9it/s]",
            vllm + "[core.py:361] init engine (profile, create kv cache, warmup model) took 31 s (compilation: 13 s)",
        ]
    )
    assert [(stage.text, stage.count) for stage in told] == [
        ("starting the engine", ""),
        ("loading weights", ""),
        ("loading weights", "2/4"),
        ("measuring memory", ""),
        ("compiling the model", ""),
        ("setting up its caches", ""),
        ("capturing CUDA graphs", "10/20"),
        ("", ""),
    ]


def test_an_actor_that_cannot_start_is_fatal_and_its_traceback_is_told():
    lines = [
        "(RolloutRayActor pid=7) Exception raised in creation task: The actor died because of an error raised in ...",
        "(RolloutRayActor pid=7)   File ...",
        "(RolloutRayActor pid=7) ValueError: no such head size",
    ]
    first, second = events(lines)
    assert isinstance(first, Fatal)
    assert second == Trouble("ValueError: no such head size")


def test_time_left_is_the_median_step_without_the_first_times_the_steps_left():
    assert math.isnan(seconds_left([], 5))
    assert seconds_left([30.0], 10) == 300.0
    assert seconds_left([30.0, 2.0, 2.0, 3.0], 10) == 20.0
