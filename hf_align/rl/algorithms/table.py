"""The RL algorithms by the names that recipes have for them."""

from __future__ import annotations

from hf_align.rl.algorithms.base import Algorithm
from hf_align.rl.algorithms.ppo import PPO

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": PPO,
}
