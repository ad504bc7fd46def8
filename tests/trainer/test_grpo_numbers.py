"""Paper's equations 1 and 2 by hand-computed cases, through OpenRLHF's own functions.

The functions are called in a process of their own (OpenRLHF needs the CPU adaptations before torch is imported); the
expected numbers are worked out in the comments.
"""

from __future__ import annotations

import json
import math

import pytest

pytestmark = pytest.mark.slow

PROGRAM = r"""
import json, math, sys
from types import SimpleNamespace
import torch
from openrlhf.models.loss import PolicyLoss, aggregate_loss
from openrlhf.models.utils import compute_approx_kl
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.phase import load_phase

phase = load_phase("mre", "local", ["rollout.samples_per_prompt=4", "rollout.batch_size=2", "train.batch_size=8",
                                    "train.micro_batch_size=2", "train.clip_range=0.2"])
args = parse_with_openrlhf(openrlhf_arguments(phase, RunPaths("p", "c", "s", "o", "t"), PromptFacts(2, 1),
                                              device="cpu", resume=False))
out = {}

# advantages, equation 2
maker = RemoteExperienceMaker.__new__(RemoteExperienceMaker)
maker.strategy = SimpleNamespace(args=args)
maker.args = args
maker.advantage_estimator = args.algo.advantage.estimator
maker.kl_ctl = FixedKLController(args.algo.kl.init_coef)
rewards = [1.0, 0.1, 0.1, 0.28, 0.1, 0.1, 0.1, 0.1]
def experience(numbers):
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    return Experience(rewards=torch.tensor([rewards[i] for i in numbers]), index=list(numbers), action_mask=mask,
                      kl=torch.zeros(2, 3), truncated=torch.zeros(2), response_length=torch.tensor([2, 2]),
                      total_length=torch.tensor([3.0, 3.0]), info={})
# given out of order: the group is found by index
order = [(1, 0), (2, 3), (4, 5), (7, 6)]
made = maker.compute_advantages_and_returns([experience(numbers) for numbers in order])
advantages = {}
for numbers, item in zip(order, made):
    for number, row, mask in zip(numbers, item.advantages, item.action_mask):
        advantages[number] = [row[i].item() for i in range(3) if mask[i]]
out["advantages"] = [advantages[i] for i in range(8)]

# clipping, equation 1
loss = PolicyLoss(clip_eps_low=args.actor.eps_clip_low_high[0], clip_eps_high=args.actor.eps_clip_low_high[1],
                  token_level_loss=args.actor.loss_agg_mode == "token-mean")
def clipped(ratio, advantage):
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    value, clip, *_ = loss(new, torch.zeros(1, 1), torch.tensor([[advantage]]), action_mask=torch.ones(1, 1))
    value.backward()
    return [value.item(), new.grad.item(), clip.item()]
out["clipping"] = [clipped(*case) for case in ((1.1, 2.0), (1.5, 2.0), (0.5, 2.0), (1.5, -2.0), (0.5, -2.0))]

# k3
logs = [math.log(0.5), math.log(0.2), math.log(0.4)]
base = [math.log(0.5), math.log(0.4), math.log(0.1)]
kl = compute_approx_kl(torch.tensor(logs), torch.tensor(base), kl_estimator=args.algo.kl.estimator)
out["k3"] = kl.tolist()

# sequence mean of token means
values = torch.tensor([[1.0, 2.0, 3.0, 6.0], [8.0, 0.0, 0.0, 0.0]])
mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
out["aggregate"] = aggregate_loss(values, mask, token_level_loss=args.actor.loss_agg_mode == "token-mean").item()
# the same from two micro-batches of one update of two sequences
parts = [aggregate_loss(values[i:i+1], mask[i:i+1], token_level_loss=False, global_batch_size=2.0).item()
         for i in (0, 1)]
out["aggregate_parts"] = sum(parts)
print("RESULT" + json.dumps(out))
"""


@pytest.fixture(scope="module")
def numbers(in_a_run):
    said = in_a_run(PROGRAM)
    assert "RESULT" in said, said
    return json.loads(said.split("RESULT")[1])


def test_advantages_are_the_rewards_of_a_group_less_their_mean_over_their_deviation(numbers):
    # Group one: 1, 0.1, 0.1, 0.28. Mean 1.48 / 4 = 0.37. Deviations 0.63, -0.27, -0.27, -0.09; squares 0.3969, 0.0729,
    # 0.0729, 0.0081, sum 0.5508, over 3 is 0.1836 (torch's sample deviation), root 0.428486.
    deviation = math.sqrt(0.1836)
    expected = [0.63 / deviation, -0.27 / deviation, -0.27 / deviation, -0.09 / deviation]
    for found, number in zip(numbers["advantages"][:4], expected, strict=True):
        assert found == pytest.approx([number] * len(found), rel=1e-5)  # the same for each token of an answer


def test_a_group_of_equal_rewards_has_no_advantage(numbers):
    for found in numbers["advantages"][4:]:
        assert found == pytest.approx([0.0] * len(found), abs=1e-3)


def test_clipping_is_that_of_equation_1_with_epsilon_0_2(numbers):
    inside, above, below, above_bad, below_bad = numbers["clipping"]
    # ratio 1.1, A = 2: -1.1 * 2; gradient of -r A with respect to the log-probability is -r A
    assert inside == pytest.approx([-2.2, -2.2, 0.0], rel=1e-5)
    # ratio 1.5, A = 2: the smaller of 3.0 and 1.2 * 2 = 2.4; clipped, no gradient
    assert above == pytest.approx([-2.4, 0.0, 1.0], rel=1e-5)
    # ratio 0.5, A = 2: the smaller of 1.0 and 0.8 * 2 = 1.6 is 1.0; not clipped
    assert below == pytest.approx([-1.0, -1.0, 0.0], rel=1e-5)
    # ratio 1.5, A = -2: the smaller of -3.0 and -2.4 is -3.0; not clipped
    assert above_bad == pytest.approx([3.0, 3.0, 0.0], rel=1e-5)
    # ratio 0.5, A = -2: the smaller of -1.0 and 0.8 * -2 = -1.6 is -1.6; clipped, no gradient
    assert below_bad == pytest.approx([1.6, 0.0, 1.0], rel=1e-5)


def test_kl_is_the_k3_estimator(numbers):
    # pi_ref / pi - log(pi_ref / pi) - 1 for pi_ref / pi = 1, 2 and 1/4
    expected = [0.0, 2 - math.log(2) - 1, 0.25 - math.log(0.25) - 1]
    assert numbers["k3"] == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_the_mean_over_answers_of_the_mean_over_tokens(numbers):
    # (1 + 2 + 3 + 6) / 4 = 3 and 8 / 1 = 8: mean 5.5. A mean over all tokens would be 20 / 5 = 4.
    assert numbers["aggregate"] == pytest.approx(5.5)
    assert numbers["aggregate_parts"] == pytest.approx(5.5)
