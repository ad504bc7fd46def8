"""What the launcher tells every agent, through one environment variable.

Apart from `agent.py`, which loads OpenRLHF.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.rewards import RewardWeights

SETTINGS = "INFI_MMR_AGENT"
"""Environment variable that holds `AgentSettings` as JSON."""


@dataclass(frozen=True)
class AgentSettings:
    """Settings of the agents of one run."""

    first_step: int = 1
    """Step that the first rollouts belong to (more than 1 after a resume)."""
    weights: RewardWeights = field(default_factory=RewardWeights)
    reward: dict[str, Any] = field(default_factory=dict)
    """The user's own function (`trainer.own_reward`); empty where there is none."""
    dtype: str = "float32"
    """Number type of the policy, in which it is handed pixels."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Arguments of vLLM's engine that take the place of OpenRLHF's."""

    def to_json(self) -> str:
        """Text for the environment variable."""
        return json.dumps({**asdict(self), "weights": self.weights.model_dump()})

    @classmethod
    def from_environment(cls) -> AgentSettings:
        """Read the environment variable.

        Raises:
            KeyError: the process was not started by the launcher.

        """
        told = json.loads(os.environ[SETTINGS])
        return cls(**{**told, "weights": RewardWeights(**told["weights"])})
