"""The agent and the reward entry: every rollout has a value, pad tokens are impossible, steps are counted by pushes."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.records import FOLDER
from trainer.openrlhf_bridge.reward_entry import Judges, judge
from trainer.rewards import RewardWeights

RIGHT = "<think>2 and 2 make 4</think>\\boxed{4}"
LABEL = json.dumps({"id": "row-1", "gold": "4", "kind": "integer"})


@pytest.mark.parametrize(
    ("output", "rewards", "score"),
    [
        (RIGHT, 1.0, 1.0),
        ("<think>2 and 2 make 5</think>\\boxed{5}", 0.1 + 0.9 * 0.2, 0.0),  # right type, wrong number
        ("4", 0.0, 0.0),  # no format, no accuracy
        ("", 0.0, 0.0),
    ],
)
def test_shaped_reward_trains_and_plain_accuracy_is_the_score(output, rewards, score):
    outcome = judge(output, LABEL, RewardWeights())
    assert outcome.rewards == pytest.approx(rewards)
    assert outcome.scores == score
    assert outcome.record["prompt_id"] == "row-1"
    assert outcome.extra_logs["reward_failed"] == 0.0


@pytest.mark.parametrize("label", ["", "no json", "[]", "3", "null", "{}", '{"gold": null}'])
def test_no_label_makes_it_raise_and_failures_are_counted(label):
    outcome = judge(RIGHT, label, RewardWeights())
    assert outcome.rewards in {0.0, 0.1}
    assert outcome.scores == 0.0
    assert outcome.extra_logs["reward_failed"] == 1.0


def test_every_outcome_has_the_same_log_names():
    names = {
        tuple(judge(output, label, RewardWeights()).extra_logs) for output in (RIGHT, "x") for label in (LABEL, "")
    }
    assert len(names) == 1


def test_it_answers_in_a_thread_and_for_many_at_once():
    async def ask():
        tasks = [asyncio.to_thread(judge, RIGHT, LABEL, RewardWeights()) for _ in range(32)]
        return await asyncio.gather(*tasks)

    assert {outcome.scores for outcome in asyncio.run(ask())} == {1.0}


def test_the_time_of_a_reward_begins_when_it_is_asked_not_while_it_waits_for_a_thread(monkeypatch):
    monkeypatch.setattr("trainer.openrlhf_bridge.reward_entry.SECONDS", 1.5)

    async def ask(*calls):
        judges = Judges(1)
        return await asyncio.gather(*(judges.ask(call) for call in calls))

    assert asyncio.run(ask(*[lambda: time.sleep(0.25)] * 8)) == [None] * 8  # 2 s in all
    ended = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            asyncio.run(ask(ended.wait))
    finally:
        ended.set()


def test_settings_survive_the_environment(monkeypatch):
    settings = AgentSettings(7, RewardWeights(format_weight=0.2, accuracy_weight=0.8))
    monkeypatch.setenv(SETTINGS, settings.to_json())
    assert AgentSettings.from_environment() == settings


PROGRAM = r"""
import asyncio, json, os, sys
from types import SimpleNamespace
from openrlhf.utils.agent import SingleTurnAgentExecutor
from trainer.openrlhf_bridge.agent import AgentExecutor, StepCounter

class Queue:                                    # of vLLM's one final output
    request_id = "r"
    def get_nowait(self):
        text = r"<think>a</think>\boxed{4}"
        output = SimpleNamespace(token_ids=[ord(c) for c in text], finish_reason="stop", logprobs=None, text="")
        return SimpleNamespace(outputs=[output])
    def close(self):
        pass

class Llm:
    resets, emptied, renderer, seen = 0, 0, None, []
    async def collective_rpc(self, method, timeout=None, args=(), kwargs=None):
        return ["done"]
    async def reset_encoder_cache(self):
        self.resets += 1
    async def reset_mm_cache(self):
        self.emptied += 1
    async def add_request(self, request_id, prompt, params):
        self.seen.append(params)
        return Queue()

class Engine:                                   # what a rollout actor looks like to its executor
    def __init__(self):
        self.llm = Llm()

class Processor:
    image_token_id, video_token_id = 1275, 1276
    def __call__(self, text, add_special_tokens, return_tensors):
        import torch
        return {"input_ids": torch.tensor([[ord(c) for c in text]])}
    def decode(self, tokens, skip_special_tokens):
        return "".join(chr(t) for t in tokens)

async def main():
    agent, engine = AgentExecutor(), Engine()
    label = json.dumps({"id": "row-1", "gold": "4", "kind": "integer"})
    async def one(label=label):
        params = SimpleNamespace(max_tokens=50, logprobs=None, logit_bias=None)
        return await agent.execute("2+2=", label, params, 200, Processor(), engine)
    first = await one()
    for number in range(3):                     # two of three weights: the step goes on
        await engine.llm.collective_rpc("update_weight", args=("w", None, (1,), number == 2))
    await engine.llm.collective_rpc("init_process_group", args=("a", True))
    second = await one()
    assert engine.llm.resets == 1               # once per push: pictures are encoded anew by the trained tower
    assert engine.llm.emptied == 1              # and the step's pictures are given back
    synced, sync = [], os.fsync
    os.fsync = lambda handle: synced.append(sync(handle))
    await one(json.dumps({"id": "math500/1", "held_out": "math500", "gold": "4", "kind": "integer"}))
    assert synced == [None]                     # the record that ends an evaluation is written by another process
    print("RESULT" + json.dumps({"first": [first["reward"], first["scores"], first["extra_logs"]],
        "bias": engine.llm.seen[0].logit_bias,
        "final": engine.llm.seen[0].output_kind.name, "detokenize": engine.llm.seen[0].detokenize,
        "second": second["reward"]}))
asyncio.run(main())
"""


@pytest.mark.slow
def test_openrlhfs_executor_returns_our_reward_and_cannot_sample_pad_tokens(in_a_run, tmp_path):
    said = in_a_run(PROGRAM, **{SETTINGS: AgentSettings(3).to_json(), FOLDER: str(tmp_path / "parts")})
    assert "RESULT" in said, said
    found = json.loads(said.split("RESULT")[1])
    assert found["first"][:2] == [1.0, 1.0]
    assert found["first"][2]["format"] == 1.0
    assert (found["final"], found["detokenize"]) == ("FINAL_ONLY", False)
    assert found["bias"] == {"1275": -100.0, "1276": -100.0}
    assert found["second"] == 1.0
    lines = [json.loads(text) for file in (tmp_path / "parts").iterdir() for text in file.read_text().splitlines()]
    seconds = [line for line in lines if "seconds" in line]
    assert [line["step"] for line in seconds] == [3]  # told at the push that ends the step
    assert sorted(seconds[0]["seconds"]) == ["engine", "front_end", "pictures", "reward"]
    lines = [line for line in lines if "seconds" not in line and "held_out" not in line]
    assert [line["step"] for line in lines] == [3, 4]  # one whole push lies between them
    assert lines[0]["output"] == "<think>a</think>\\boxed{4}"
    assert lines[0]["gold"] == "4"
