"""How good and how honest a reward model is: accuracy, calibration, and what answer length has to do with it.

Works on the metrics of pairs of answers: ``margins`` (Q,), the score of the chosen answer minus that of the
rejected; ``weights`` (Q,), one over the pairs of the same prompt, so that every prompt counts once;
``length_differences`` (Q,), target tokens of the chosen answer minus those of the rejected. Pure NumPy. A
pair whose margin is not a number counts as wrong and is left out of every other metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 10
QUANTILES = 5
Z = 1.959963984540054
"""The standard normal quantile of 0.975, for intervals of 95 %."""


def reward_evaluation(
    margins: npt.ArrayLike,
    weights: npt.ArrayLike,
    length_differences: npt.ArrayLike,
    *,
    scores: npt.ArrayLike = (),
    lengths: npt.ArrayLike = (),
) -> dict[str, Any]:
    """Every metric of this module in one dictionary that JSON can hold.

    ``scores`` and ``lengths`` (A,): the score and the target tokens of every answer.
    """
    margins, weights, differences = _arrays(margins, weights, length_differences)
    known = np.isfinite(margins)
    correct = accuracy(margins, weights)
    prompts = float(weights.sum())
    return {
        "pairs": len(margins),
        "prompts": round(prompts),
        "accuracy": correct,
        "accuracy_interval": list(wilson_interval(correct, prompts)),
        "ties": _mean(margins == 0, weights),
        "mean_margin": _mean(margins[known], weights[known]),
        "not_finite": int((~known).sum()),
        "ece": expected_calibration_error(margins, weights),
        "reliability": reliability(margins, weights),
        "by_length": accuracy_by_length(margins, weights, differences),
        "score_length_correlation": correlation(scores, lengths),
    }


def headline(details: Mapping[str, npt.ArrayLike]) -> dict[str, float]:
    """Figures for the log of training, from an evaluation's details; kinds of pairs that it lacks are left
    out."""
    margins, weights = details["margins"], details["pair_weights"]
    right = accuracy(margins, weights)
    low, high = wilson_interval(right, float(np.sum(weights)))
    by_length = accuracy_by_length(margins, weights, details["length_differences"])
    return {
        "accuracy_low": low,
        "accuracy_high": high,
        "ece": expected_calibration_error(margins, weights),
        **{
            f"accuracy_{name}": by_length[name]["accuracy"]
            for name in ("longer_better", "shorter_better")
            if name in by_length
        },
    }


def mean_and_deviation(scores: npt.ArrayLike) -> dict[str, float]:
    """``mean`` and ``std`` (of the population) of the finite scores; NaN without any."""
    (values,) = _arrays(scores)
    values = values[np.isfinite(values)]
    if not len(values):
        return {"mean": math.nan, "std": math.nan}
    return {"mean": float(values.mean()), "std": float(values.std())}


def accuracy(margins: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Weighted share of pairs whose chosen answer has the strictly higher score; NaN without pairs."""
    margins, weights = _arrays(margins, weights)
    return _mean(margins > 0, weights)


def wilson_interval(share: float, count: float, *, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share seen in ``count`` independent trials (Wilson 1927).

    Pairs of one prompt are not independent: ``count`` is to be that of the prompts. (0, 1) without trials.
    """
    if not count > 0 or math.isnan(share):
        return 0.0, 1.0
    scale = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(max(0.0, share * (1 - share)) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability(
    margins: npt.ArrayLike, weights: npt.ArrayLike, *, bins: int = BINS
) -> list[dict[str, float]]:
    """Predicted confidence against the share that was right, in ``bins`` bins of equal width.

    Under the Bradley-Terry model the first answer beats the second with probability sigma(margin). The order
    that the scores predict is the likelier one; its confidence, max(p, 1 - p) = sigma(|margin|), lies in
    [0.5, 1], which the bins divide. The prediction is right where the margin is above 0; a tie, whose
    probability is one half, is half right. One entry a bin that is not empty: ``lower``, ``upper``,
    ``pairs``, ``share`` (of the weight), ``confidence`` and ``accuracy`` (weighted means).
    """
    margins, weights = _known(margins, weights)
    if not len(margins):
        return []
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    right = np.where(margins == 0, 0.5, margins > 0)
    place = np.clip(((confidence - 0.5) * 2 * bins).astype(int), 0, bins - 1)
    table = []
    for number in np.unique(place):
        inside = place == number
        table.append(
            {
                "lower": 0.5 + 0.5 * float(number) / bins,
                "upper": 0.5 + 0.5 * float(number + 1) / bins,
                "pairs": int(inside.sum()),
                "share": float(weights[inside].sum() / weights.sum()),
                "confidence": _mean(confidence[inside], weights[inside]),
                "accuracy": _mean(right[inside], weights[inside]),
            }
        )
    return table


def expected_calibration_error(margins: npt.ArrayLike, weights: npt.ArrayLike, *, bins: int = BINS) -> float:
    """Mean over the bins of :func:`reliability` of |accuracy - confidence|, weighted by their share.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3. NaN without pairs.
    """
    table = reliability(margins, weights, bins=bins)
    if not table:
        return math.nan
    return sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in table)


def accuracy_by_length(
    margins: npt.ArrayLike,
    weights: npt.ArrayLike,
    length_differences: npt.ArrayLike,
    *,
    quantiles: int = QUANTILES,
) -> dict[str, Any]:
    """Accuracy where the chosen answer is longer, shorter, equally long, and by quantiles of the difference.

    A model that has learned to prefer long answers is right where the chosen one is longer and wrong where
    it is shorter. Entries hold ``pairs``, ``share``, ``accuracy`` and ``mean_margin``; those of ``quantiles``
    also ``lower`` and ``upper``, the smallest and the largest difference among them in tokens. Equal
    differences are in the same quantile, so that there may be fewer than asked for.
    """
    margins, weights, differences = _arrays(margins, weights, length_differences)
    groups = {
        "longer_better": differences > 0,
        "shorter_better": differences < 0,
        "equal": differences == 0,
    }
    result: dict[str, Any] = {
        name: _group(margins, weights, inside) for name, inside in groups.items() if inside.any()
    }
    levels = np.arange(1, quantiles) / quantiles
    edges = np.quantile(differences, levels) if len(differences) else np.zeros(0)
    place = np.searchsorted(edges, differences, side="left")
    result["quantiles"] = [
        {
            "lower": float(differences[place == number].min()),
            "upper": float(differences[place == number].max()),
            **_group(margins, weights, place == number),
        }
        for number in np.unique(place)
    ]
    return result


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Pearson's correlation; None where one of the two does not vary."""
    one, two = _arrays(first, second)
    known = np.isfinite(one) & np.isfinite(two)
    one, two = one[known], two[known]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    return float(np.corrcoef(one, two)[0, 1])


def distribution(
    chosen: npt.ArrayLike, rejected: npt.ArrayLike, weights: npt.ArrayLike, *, bins: int = 24
) -> dict[str, list[float]]:
    """Histograms of the scores of chosen and rejected answers over common bins.

    ``edges`` (bins + 1,); ``chosen`` and ``rejected`` (bins,): weighted shares, each adding up to 1. Empty
    lists where there is no finite score.
    """
    chosen, rejected, weights = _arrays(chosen, rejected, weights)
    known = np.isfinite(chosen) & np.isfinite(rejected)
    if not known.any():
        return {"edges": [], "chosen": [], "rejected": []}
    chosen, rejected, weights = chosen[known], rejected[known], weights[known]
    edges = bin_edges(np.concatenate([chosen, rejected]), bins)
    shares = (
        np.histogram(scores, edges, weights=weights)[0] / weights.sum() for scores in (chosen, rejected)
    )
    return dict(
        zip(("edges", "chosen", "rejected"), (edges.tolist(), *(s.tolist() for s in shares)), strict=True)
    )


def bin_edges(values: npt.ArrayLike, bins: int) -> Floats:
    """(bins + 1,) edges of equally wide bins over finite ``values``.

    A range too narrow to be divided (``numpy.histogram`` refuses it), such as that of 0.3 and 0.1 + 0.2, is
    widened on both sides by half, or by as much as numbers of that size need.
    """
    found = np.asarray(values, dtype=np.float64)
    low, high = found.min(), found.max()
    finest = float(np.spacing(max(abs(low), abs(high))))
    if high - low < 4 * bins * finest:
        widening = max(0.5, 4 * bins * finest)
        low, high = low - widening, high + widening
    return np.linspace(low, high, bins + 1)


def _group(margins: Floats, weights: Floats, inside: npt.NDArray[np.bool_]) -> dict[str, float]:
    margins, total = margins[inside], weights.sum()
    weights = weights[inside]
    known = np.isfinite(margins)
    return {
        "pairs": int(inside.sum()),
        "share": float(weights.sum() / total),
        "accuracy": _mean(margins > 0, weights),
        "mean_margin": _mean(margins[known], weights[known]),
    }


def _mean(values: npt.NDArray[Any], weights: Floats) -> float:
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else math.nan


def _known(margins: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Floats, Floats]:
    margins, weights = _arrays(margins, weights)
    known = np.isfinite(margins)
    return margins[known], weights[known]


def _arrays(*values: npt.ArrayLike) -> list[Floats]:
    """All as float64 of one length; raises ValueError where the lengths differ."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        raise ValueError(f"expected arrays of one length, found {[array.shape for array in arrays]}")
    return arrays
