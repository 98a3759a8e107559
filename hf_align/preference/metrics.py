"""What preference optimisation achieved on held-out prompts, with intervals: the entry of run.json.

Intervals are those of the prompts: had others been held out, the metrics would differ by about that much.
They say nothing about another seed or other training data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.statistics.calibration import Floats, Z, wilson_interval

_MEANS = ("logps/chosen", "logps/rejected", "logps/chosen_change", "kl", "pairwise_loss")


def preference_evaluation(
    metrics: Mapping[str, float], details: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """The number of ``prompts``, accuracies and ``margin`` with 95 % intervals, and means of ``metrics``.

    ``accuracy``: the share of pairs whose chosen answer has the strictly higher reward; ``margin``: by how
    much. A model that is its own reference gives no answer a reward, so that its accuracy is 0 or noise.
    ``likelihood_accuracy``: the share whose chosen answer is likelier per token, with or without a reference.

    ``metrics``: those of the evaluation, with the prefix ``eval_``. ``details``: ``margins``,
    ``likelihood_margins`` and ``pair_weights`` (Q,) of all held-out pairs, those of a prompt side by side.
    """
    weights = details["pair_weights"]
    margins = prompt_means(details["margins"], weights)
    found: dict[str, Any] = {"prompts": len(margins)}
    if not len(margins):
        return found
    for name, key in (("accuracy", "margins"), ("likelihood_accuracy", "likelihood_margins")):
        share = float(prompt_means(details[key] > 0, weights).mean())
        # Wider than need be where a prompt has several pairs and is right by parts.
        found |= {name: share, f"{name}_interval": list(wilson_interval(share, len(margins)))}
    found |= {"margin": float(margins.mean()), "margin_interval": list(mean_interval(margins))}
    known = {name: metrics.get(f"eval_{name}") for name in _MEANS}
    return found | {name: value for name, value in known.items() if value is not None}


def prompt_means(values: npt.ArrayLike, pair_weights: npt.ArrayLike) -> Floats:
    """(prompts,): the mean over the pairs of each prompt, which stand side by side.

    ``values`` and ``pair_weights`` (Q,): a pair's weight is one over the number of pairs of its prompt.
    """
    given, weights = np.asarray(values, dtype=np.float64), np.asarray(pair_weights, dtype=np.float64)
    means = []
    start = 0
    while start < len(given):
        count = round(1 / float(weights[start]))
        means.append(float(given[start : start + count].mean()))
        start += count
    return np.array(means, dtype=np.float64)


def mean_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of a mean from its standard error; the mean alone where there is one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean
    half = Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half
