"""Means and whitening over the entries that count, in the reductions that PPO uses.

``mask`` is True or 1 where an entry counts; what stands elsewhere may be anything, even infinite or NaN.
"""

from __future__ import annotations

import torch

from hf_align.losses.checks import check_shapes


def masked_mean(values: torch.Tensor, mask: torch.Tensor, *, dim: int | None = None) -> torch.Tensor:
    """Mean of ``values`` (B, T) where ``mask`` (B, T) counts: over everything, or over ``dim``.

    Where nothing counts the mean is 0. Raises ValueError for shapes that differ.
    """
    check_shapes(values=values, mask=mask)
    counted = torch.where(mask.bool(), values, 0.0)
    if dim is None:
        return counted.sum() / mask.bool().sum().clamp(min=1)
    return counted.sum(dim=dim) / mask.bool().sum(dim=dim).clamp(min=1)


def masked_whiten(
    values: torch.Tensor, mask: torch.Tensor, *, shift_mean: bool = True, epsilon: float = 1e-8
) -> torch.Tensor:
    """``values`` (B, T) scaled to variance 1 over the entries that count, and to mean 0 if ``shift_mean``.

    The variance is the biased one (divided by the number of entries). Without ``shift_mean`` the values keep
    their mean, as rewards must. Entries that do not count come out as 0. Raises ValueError for shapes that
    differ.

    Source: Ziegler et al. 2019, ``whiten`` of openai/lm-human-preferences; Huang et al. 2024, "The N
    implementation details of RLHF with PPO".
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((torch.where(mask.bool(), values, mean) - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + epsilon)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask.bool(), whitened, 0.0)
