"""Advantages of sampled tokens from rewards and value estimates."""

from __future__ import annotations

import torch

from hf_align.losses.checks import check_shapes, check_share


def generalized_advantage_estimation(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(advantages, returns)``, each (B, T), 0 where ``mask`` does not count.

    ``rewards`` (B, T): reward after each token. ``values`` (B, T): the estimate before it. ``mask`` (B, T):
    the tokens of the response, without gaps in a row; the state after the last of them has the value 0,
    whatever stands behind it. ``returns`` are advantages + values. No gradient flows through either. Raises
    ValueError for ``gamma`` or ``lam`` outside [0, 1] and for shapes that differ.

    Source: Schulman et al. 2016, arXiv 1506.02438, equations 11, 12 and 16.
    """
    check_share("gamma", gamma, upper=1.0)
    check_share("lam", lam, upper=1.0)
    check_shapes(rewards=rewards, values=values, mask=mask)
    counts = mask.bool()
    rewards = torch.where(counts, rewards, 0.0).detach()
    values = torch.where(counts, values, 0.0).detach()
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(following)
    for t in reversed(range(values.shape[1])):
        # eq. 12: delta_t = r_t + gamma V(s_t+1) - V(s_t)
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # eq. 16 as a recursion: A_t = delta_t + gamma lambda A_t+1
        following = torch.where(counts[:, t], delta + gamma * lam * following, 0.0)
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, torch.where(counts, advantages + values, 0.0)
