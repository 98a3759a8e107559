"""How many rows have each label, which weights go with that, and what a run achieved on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.kto.record import Labels
from hf_align.preference.metrics import mean_interval
from hf_align.statistics.calibration import Z, wilson_interval

LOW, HIGH = 1.0, 4 / 3
"""Between these the weighted counts of both labels should stand to each other."""


def labels(desirable: int, undesirable: int, *, desirable_weight: float, undesirable_weight: float) -> Labels:
    """Counts, their weighted ratio and the weights that would bring it between 1 and 4/3."""
    found = Labels(desirable=desirable, undesirable=undesirable)
    if not (desirable and undesirable and desirable_weight and undesirable_weight):
        return found
    # Ethayarajh et al. 2024, arXiv 2402.01306, eq. 9
    share = desirable / undesirable
    found.ratio = share * desirable_weight / undesirable_weight
    found.desirable_weights = [bound * undesirable_weight / share for bound in (LOW, HIGH)]
    found.undesirable_weights = [share * desirable_weight / bound for bound in (HIGH, LOW)]
    return found


def balanced(found: Labels) -> bool:
    """Whether the weighted ratio is where it should be, as far as rounding tells."""
    return found.ratio is not None and LOW - 1e-6 <= found.ratio <= HIGH + 1e-6


def kto_evaluation(metrics: Mapping[str, float], details: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """``rows``, mean rewards of both labels and their ``margin`` with 95 % intervals, ``auc`` and ``kl``.

    ``auc``: the chance that a desirable answer has a higher reward than an undesirable one, ties counting
    half. ``metrics``: those of the evaluation, with the prefix ``eval_``. ``details``: ``rewards`` and
    ``desirable`` (B,) of all held-out rows.
    """
    rewards = np.asarray(details["rewards"], dtype=np.float64)
    liked = np.asarray(details["desirable"], dtype=bool)
    groups = {"desirable": rewards[liked], "undesirable": rewards[~liked]}
    found: dict[str, Any] = {"rows": len(rewards)}
    for name, values in groups.items():
        found[f"{name}_rows"] = len(values)
        if len(values):
            found[f"{name}_reward"] = float(values.mean())
            found[f"{name}_reward_interval"] = list(mean_interval(values))
    if len(groups["desirable"]) and len(groups["undesirable"]):
        found |= _margin(*groups.values()) | _auc(*groups.values())
    for name in ("kl", "unweighted_loss"):
        if f"eval_{name}" in metrics:
            found[name] = metrics[f"eval_{name}"]
    return found


def _margin(liked: npt.NDArray[np.float64], disliked: npt.NDArray[np.float64]) -> dict[str, Any]:
    margin = float(liked.mean() - disliked.mean())
    spread = sum(one.var(ddof=1) / len(one) if len(one) > 1 else 0.0 for one in (liked, disliked))
    half = Z * math.sqrt(spread)
    return {"margin": margin, "margin_interval": [margin - half, margin + half]}


def _auc(liked: npt.NDArray[np.float64], disliked: npt.NDArray[np.float64]) -> dict[str, Any]:
    ordered = np.sort(disliked)
    below, upto = (np.searchsorted(ordered, liked, side=side) for side in ("left", "right"))
    auc = float((below + upto).mean() / 2 / len(disliked))
    # Wider than need be: pairs that share an answer are no independent draws, the rarer label bounds them.
    interval = wilson_interval(auc, min(len(liked), len(disliked)))
    return {"auc": auc, "auc_interval": list(interval)}
