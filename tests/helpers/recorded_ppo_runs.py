"""A PPO run with recorded rollouts, to be replayed."""

from __future__ import annotations

from hf_align.rl.replay.run import Recomputed, Replayed

STATEFUL = {
    "adaptive_kl": True,
    "target_kl": 0.01,
    "kl_horizon": 20,
    "normalize_scores": True,
    "score_clip": 2.0,
    "entropy_coef": 0.001,
    "missing_eos_penalty": 0.1,
    "whiten_rewards": True,
    "num_rollouts": 4,
    "save_steps": 2,
    "save_total_limit": None,
}


def again_of(replayed: Replayed) -> Recomputed:
    assert replayed.again is not None, replayed.why_not
    return replayed.again
