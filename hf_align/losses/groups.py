"""Advantages of answers against the other answers to their prompt, and how a loss weighs tokens and answers.

What this module leaves out: the losses of tokens (``losses.policy``), and means over processes.
"""

from __future__ import annotations

from typing import Literal

import torch

from hf_align.losses.checks import check_shapes, check_share, check_sign

ScaleRewards = Literal["group", "batch", "none"]
LossType = Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo"]

EPSILON = 1e-4
"""Added to a standard deviation before anything is divided by it, as TRL does."""


def _indices(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(index of each answer's group (B,), sizes of the groups (G,))."""
    _, index, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    return index, sizes


def group_means(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B,) the mean score of each answer's group. ``scores`` (B,), ``groups`` (B,) any numbers.

    Raises ValueError for shapes that differ.
    """
    check_shapes(scores=scores, groups=groups)
    index, sizes = _indices(groups)
    sums = scores.new_zeros(len(sizes)).index_add(0, index, scores)
    return (sums / sizes)[index]


def group_deviations(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B,) the unbiased standard deviation (n - 1) of each answer's group; 0 for a group of one, and exactly
    0 where all scores are equal. Arguments and errors as in :func:`group_means`."""
    index, sizes = _indices(groups)
    squares = (scores - group_means(scores, groups)) ** 2
    sums = scores.new_zeros(len(sizes)).index_add(0, index, squares)
    deviations = (sums / (sizes - 1).clamp(min=1)).sqrt()[index]
    return torch.where(equal_scores(scores, groups), 0.0, deviations)


def equal_scores(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B,) bool: all answers of this one's group have the same score, as one alone has; comparing
    them teaches nothing. Arguments and errors as in :func:`group_means`."""
    check_shapes(scores=scores, groups=groups)
    index, sizes = _indices(groups)
    start = scores.new_zeros(len(sizes))
    lowest = start.scatter_reduce(0, index, scores, "amin", include_self=False)
    highest = start.scatter_reduce(0, index, scores, "amax", include_self=False)
    return (lowest == highest)[index]


def group_relative_advantages(
    scores: torch.Tensor, groups: torch.Tensor, *, scale: ScaleRewards = "group"
) -> torch.Tensor:
    """(B,) the score less the mean of its group, over a standard deviation + 1e-4; 0 in a group of one.

    ``scale``: ``group`` divides by the unbiased deviation of the group (Shao et al. 2024, arXiv 2402.03300,
    section 4.1.2), ``batch`` by that of all scores (Liu et al. 2025, arXiv 2508.08221), ``none`` by nothing
    (Dr. GRPO: Liu et al. 2025, arXiv 2503.20783). Other arguments and errors as in :func:`group_means`;
    ValueError for another ``scale``.
    """
    equal = equal_scores(scores, groups)
    centred = torch.where(equal, 0.0, scores - group_means(scores, groups))
    if scale == "none":
        return centred
    if scale == "group":
        return centred / (group_deviations(scores, groups) + EPSILON)
    if scale == "batch":
        return centred / (scores.std() + EPSILON) if len(scores) > 1 else centred
    raise ValueError(f"scale: found {scale!r}, expected group, batch or none")


def leave_one_out_advantages(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B,) the score less the mean of the *other* answers of its group; 0 in a group of one.

    Arguments and errors as in :func:`group_means`. Source: RLOO, Kool et al. 2019; Ahmadian et al. 2024,
    arXiv 2402.14740, equation 8.
    """
    equal = equal_scores(scores, groups)
    index, sizes = _indices(groups)
    own = sizes[index].to(scores.dtype)
    # R_i - (sum - R_i) / (n - 1) = n / (n - 1) (R_i - mean)
    advantages = (scores - group_means(scores, groups)) * own / (own - 1).clamp(min=1)
    return torch.where(equal, 0.0, advantages)


def discounted_returns(rewards: torch.Tensor, mask: torch.Tensor, *, gamma: float) -> torch.Tensor:
    """(B, T) at each token the discounted sum of the rewards from there on, 0 where ``mask`` does not count.

    ``rewards`` (B, T): after each token. ``mask`` (B, T): without gaps in a row. Raises ValueError for
    ``gamma`` outside [0, 1] and for shapes that differ. Source: Sutton and Barto 2018, equation 3.8.
    """
    check_share("gamma", gamma, upper=1.0)
    check_shapes(rewards=rewards, mask=mask)
    counts = mask.bool()
    rewards = torch.where(counts, rewards, 0.0)
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        # G_t = r_t + gamma G_t+1
        following = torch.where(counts[:, t], rewards[:, t] + gamma * following, 0.0)
        returns[:, t] = following
    return returns


def loss_weights(mask: torch.Tensor, loss_type: LossType, *, max_length: int) -> torch.Tensor:
    """(B, T) the factor of each token in the sum of losses, 0 where ``mask`` (B, T) does not count.

    The sum is divided by the answers where :func:`counts_answers`, masked ones included, otherwise by the
    tokens that count. ``grpo``: 1 / length of the answer; ``dr_grpo``: 1 / ``max_length`` > 0, the longest
    answer that was possible; the others: 1. ``dapo``, ``bnpo`` and ``cispo`` weigh alike: TRL's ``bnpo``
    divides by the tokens of each micro-batch by itself, here a step is one batch however it is cut. Raises
    ValueError for another ``loss_type`` or ``max_length``.

    Sources: ``grpo`` arXiv 2402.03300, ``dapo`` arXiv 2503.14476, ``dr_grpo`` arXiv 2503.20783, ``cispo``
    arXiv 2506.13585.
    """
    check_sign("max_length", max_length)
    counts = mask.bool().float()
    if loss_type == "grpo":
        return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    if loss_type == "dr_grpo":
        return counts / max_length
    if loss_type in ("dapo", "bnpo", "cispo"):
        return counts
    raise ValueError(f"loss_type: found {loss_type!r}, expected grpo, dapo, dr_grpo, bnpo or cispo")


def counts_answers(loss_type: LossType) -> bool:
    """Whether the sum of losses is divided by the number of answers, and not by that of their tokens."""
    return loss_type in ("grpo", "dr_grpo")


def overlong_penalty(lengths: torch.Tensor, *, max_length: int, cache: int) -> torch.Tensor:
    """(B,) float32 what a long answer adds to its score: 0 up to ``max_length - cache`` tokens, then linearly
    down to -1 at ``max_length``, -1 beyond.

    ``lengths`` (B,): tokens. ``cache``: at least 1 and at most ``max_length``, else ValueError. Source: DAPO,
    Yu et al. 2025, arXiv 2503.14476, equation 13.
    """
    if not 1 <= cache <= max_length:
        raise ValueError(f"cache: found {cache}, expected a whole number from 1 to max_length, {max_length}")
    over = lengths.float() - (max_length - cache)
    return -(over / cache).clamp(0.0, 1.0)


def answer_sums(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(A,) sums over the tokens of each answer. ``values`` (N,): tokens, one answer after the other;
    ``lengths`` (A,): how many each has. Raises ValueError where they do not add up to N."""
    if int(lengths.sum()) != len(values):
        raise ValueError(f"lengths add up to {int(lengths.sum())}, expected {len(values)}")
    index = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, index, values)


def answer_log_ratios(
    log_ratios: torch.Tensor, lengths: torch.Tensor, *, reduction: Literal["mean", "sum"]
) -> torch.Tensor:
    """(N,) for each token the mean or the sum of the log-ratios of its answer, in nats.

    Arguments and errors as in :func:`answer_sums`. ``mean`` is GSPO's ratio of sequences (Zheng et al. 2025,
    arXiv 2507.18071, equation 7), ``sum`` the ratio of the probabilities of the whole answers.
    """
    sums = answer_sums(log_ratios, lengths)
    if reduction == "mean":
        sums = sums / lengths.clamp(min=1)
    return torch.repeat_interleave(sums, lengths)
