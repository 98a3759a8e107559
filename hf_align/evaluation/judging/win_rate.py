"""How often one model's answers beat another's to the same prompts, by a reward model or by a judge.

A tie counts half. A judge sees both orders of the two answers, since most of them favour a place; where it
changes its mind with the order, that is a tie. What asks a judge is in ``judge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.evaluation.judging.judge import Verdict
from hf_align.statistics.bootstrap import bootstrap_interval
from hf_align.statistics.calibration import wilson_interval

Outcomes = npt.NDArray[np.float64]
"""(prompts,): 1 where the answer wins, 0 where it loses, 1/2 for a tie."""


def by_scores(ours: Sequence[float], theirs: Sequence[float]) -> Outcomes:
    """Outcomes by scores, higher being better. Raises ValueError for different lengths."""
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"scores of one length are needed, found {first.shape} and {second.shape}")
    return np.where(first == second, 0.5, first > second).astype(np.float64)


def by_verdicts(
    forward: Sequence[Verdict], backward: Sequence[Verdict]
) -> tuple[Outcomes, dict[str, float | None]]:
    """(outcomes, how reliable the judge was). ``forward``: our answer came first; ``backward``: second.

    Prompts of which neither order has a verdict are left out of the outcomes. Reliability: ``consistent``,
    the share of the prompts with a verdict in both orders where both gave the same (None without such
    prompts); ``first_place``, the share of decided comparisons that went to the place shown first (one half
    is unbiased, None where none was decided); ``unreadable`` and ``refused``, the shares of requests with a
    reply that holds no verdict and without a reply, which count as ties where the other order has a verdict.
    """
    values = {"first": 1.0, "second": 0.0, "tie": 0.5, "unreadable": 0.5, "refused": 0.5}
    one = np.array([values[verdict] for verdict in forward])
    other = 1 - np.array([values[verdict] for verdict in backward])
    agreed = one == other
    outcomes = np.where(agreed, one, 0.5)
    missing = np.array([[v in ("unreadable", "refused") for v in both] for both in (forward, backward)])
    read = ~missing.any(axis=0)
    replies = [*forward, *backward]
    decided = [verdict for verdict in replies if verdict in ("first", "second")]
    first = sum(verdict == "first" for verdict in decided)
    return outcomes[~missing.all(axis=0)], {
        "consistent": float(agreed[read].mean()) if read.any() else None,
        "first_place": first / len(decided) if decided else None,
        "unreadable": sum(verdict == "unreadable" for verdict in replies) / len(replies),
        "refused": sum(verdict == "refused" for verdict in replies) / len(replies),
    }


def win_metrics(outcomes: Outcomes, *, seed: int) -> dict[str, Any]:
    """``win_rate`` (a tie is half a win) with its interval, 95 %; ``wins``, ``ties``, ``losses`` as shares;
    ``prompts``, and nothing else where there is no outcome.

    The interval comes from drawing the prompts again where there are ties beside wins or losses, and is
    Wilson's else: prompts that all went the same way would give an interval of no width.
    """
    count = len(outcomes)
    if not count:
        return {"prompts": 0}
    mean = float(outcomes.mean())
    interval: list[float] | None = list(wilson_interval(mean, count))
    if (outcomes == 0.5).any() and len(set(outcomes.tolist())) > 1:
        interval = bootstrap_interval(outcomes, lambda sums: sums[:, 0] / count, seed=seed)
    return {
        "prompts": count,
        "win_rate": mean,
        "win_rate_interval": interval,
        "wins": float((outcomes == 1).mean()),
        "ties": float((outcomes == 0.5).mean()),
        "losses": float((outcomes == 0).mean()),
    }
