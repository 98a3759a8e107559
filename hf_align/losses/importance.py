"""Importance weights for tokens that another program sampled than the one that trains on them.

An inference server computes the policy's probabilities in other kernels, and often in another precision, so
that its tokens come from a slightly other distribution; a weight corrects the gradient's expectation for it.
What this leaves out: the ratio to the policy that is being trained, which is ``losses.ppo``.
"""

from __future__ import annotations

from typing import Literal

import torch

from hf_align.losses.checks import check_shapes, check_sign
from hf_align.losses.policy import MAX_LOG_RATIO

ImportanceMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


def importance_weights(
    logps: torch.Tensor,
    sampled_logps: torch.Tensor,
    mask: torch.Tensor,
    *,
    mode: ImportanceMode = "token_truncate",
    clip_max: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights (B, T), 0 where ``mask`` does not count; whether each was limited (B, T) bool).

    With r = pi(a|s) / mu(a|s), ``logps`` (B, T) being those of the policy pi before its update and
    ``sampled_logps`` (B, T) those of the program mu that sampled, both in nats: ``token_truncate`` is
    min(r, C) for C = ``clip_max`` > 0, and ``token_mask`` r where r is at most C, else 0.
    ``sequence_truncate`` and ``sequence_mask`` do the same with the product of r over the answer, which all
    of its tokens get. ``mask`` (B, T) counts where it is True or 1; what stands elsewhere may be anything.
    Raises ValueError for another mode or ``clip_max``, and for shapes that differ.

    Source: Ionides 2008, "Truncated importance sampling"; for each token Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training". The modes are those of TRL's
    ``vllm_importance_sampling_mode``.
    """
    check_sign("clip_max", clip_max)
    check_shapes(logps=logps, sampled_logps=sampled_logps, mask=mask)
    level, _, limit = mode.partition("_")
    if level not in ("token", "sequence") or limit not in ("truncate", "mask"):
        raise ValueError(
            f"mode: found {mode!r}, expected token_truncate, token_mask, sequence_truncate or sequence_mask"
        )
    counts = mask.bool()
    log_ratio = torch.where(counts, logps - sampled_logps, 0.0)
    if level == "sequence":
        log_ratio = log_ratio.sum(dim=-1, keepdim=True).expand_as(log_ratio)
    ratio = torch.exp(log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    limited = counts & (ratio > clip_max)
    weights = ratio.clamp(max=clip_max) if limit == "truncate" else torch.where(limited, 0.0, ratio)
    return torch.where(counts, weights, 0.0), limited
