"""The RL algorithms by the names that recipes have for them."""

from __future__ import annotations

from hf_align.rl.algorithms.base import Algorithm
from hf_align.rl.algorithms.grpo import GRPO
from hf_align.rl.algorithms.ppo import PPO
from hf_align.rl.algorithms.reinforce import REINFORCE, REINFORCE_PP
from hf_align.rl.algorithms.rloo import RLOO

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": PPO,
    "grpo": GRPO,
    "rloo": RLOO,
    "reinforce": REINFORCE,
    "reinforce_pp": REINFORCE_PP,
}
