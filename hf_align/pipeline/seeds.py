"""Evaluations of the same models trained with several seeds, put together: means, and intervals over seeds.

An interval over seeds says what another training run would change; one over items what other rows would.
Three seeds say little about a spread, and Student's t distribution makes their interval as wide as that is.

That of a share may then reach below 0 or above 1, where no share can lie. It ends there: the share itself
lies within, so that the shorter interval holds it exactly as often as the whole one (Evans, Hansen and Stark
2003, technical report 617, Department of Statistics, University of California, Berkeley). Differences of
shares end at -1 and 1. To transform the shares first, none of them could be 0 or 1, as those of small models
are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from hf_align.evaluation.results import KINDS, main_metric, metric_names
from hf_align.statistics.bootstrap import bootstrap_interval

# Quantiles of Student's t distribution at 97.5 %, by degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z = 1.959964
_SHARES, _CHANGES = (0.0, 1.0), (-1.0, 1.0)
"""Where shares, and differences of shares, lie."""

Row = Mapping[str, Any]


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution; beyond 10 degrees of freedom to three decimals, by the
    expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5)."""
    if freedom < 1:
        raise ValueError(f"degrees of freedom: found {freedom}, expected at least 1")
    if freedom <= len(_T):
        return _T[freedom - 1]
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / freedom + second / freedom**2 + third / freedom**3


def over_seeds(values: Sequence[float], *, within: tuple[float, float] | None = None) -> dict[str, Any]:
    """``mean``, ``by_seed``, and ``interval``, 95 % for the mean over seeds; None where all values are the
    same, as of a model that no seed has touched, and for a single seed.

    ``within``: where all values can lie, beyond which the interval does not reach; it has no effect where a
    value lies outside, as the points of a task that gives more than one.
    """
    known = [float(value) for value in values]
    mean = statistics.fmean(known)
    interval = None
    if len(known) > 1 and max(known) > min(known):
        half = t_quantile(len(known) - 1) * statistics.stdev(known) / math.sqrt(len(known))
        interval = [mean - half, mean + half]
        if within is not None and within[0] <= min(known) and max(known) <= within[1]:
            interval = [max(within[0], interval[0]), min(within[1], interval[1])]
    return {"mean": mean, "by_seed": known, "interval": interval}


def combined(evaluations: Sequence[Row]) -> dict[str, Any]:
    """The results of one evaluation, repeated for each seed: ``[kind][task][model]`` with ``metrics`` and
    ``differences`` from the first model by key, each as :func:`over_seeds` gives it, and ``metrics`` where a
    task says itself what its metrics are called (see ``results.figure_names``).

    ``evaluations``: the content of each evaluation.json. Only what all of them have is kept. A single one has
    its own intervals, over items: those of ``metrics``, and of the main metric's difference as
    ``over_prompts``.
    """
    found: dict[str, Any] = {}
    for kind, tasks in evaluations[0]["results"].items():
        for task, by_model in tasks.items():
            first = evaluations[0]["models"][0]["name"]
            main = main_metric(kind, by_model)
            shares = {key for key in metric_names(kind, by_model) if KINDS[kind].is_share(key)}
            for model in by_model:
                each = [_metrics(one, kind, task, model) for one in evaluations]
                base = [_metrics(one, kind, task, first) for one in evaluations] if model != first else []
                if all(each) and all(base):
                    entry = _of_model(each, base, main, shares)
                    found.setdefault(kind, {}).setdefault(task, {})[model] = entry
    return found


def _metrics(evaluation: Row, kind: str, task: str, model: str) -> dict[str, Any]:
    return dict(evaluation["results"].get(kind, {}).get(task, {}).get(model) or {})


def _of_model(metrics: Sequence[Row], first: Sequence[Row], main: str, shares: Set[str]) -> dict[str, Any]:
    keys = [key for key in metrics[0] if all(_is_number(one.get(key)) for one in metrics)]
    entry: dict[str, Any] = {
        "figures": {
            key: over_seeds([one[key] for one in metrics], within=_SHARES if key in shares else None)
            for key in keys
        }
    }
    compared = [key for key in keys if first and all(_is_number(one.get(key)) for one in first)]
    entry["differences"] = {
        key: over_seeds(
            [one[key] - base[key] for one, base in zip(metrics, first, strict=True)],
            within=_CHANGES if key in shares else None,
        )
        for key in compared
    }
    if isinstance(metrics[0].get("metrics"), Mapping):
        entry["metrics"] = dict(metrics[0]["metrics"])
    if len(metrics) == 1:
        for key in keys:
            entry["figures"][key]["interval"] = metrics[0].get(f"{key}_interval")
        if main in compared:
            own = metrics[0].get("difference") or {}
            entry["differences"][main]["over_prompts"] = own.get("interval")
    return entry


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def reward_difference_over_prompts(
    first: Sequence[Sequence[float]], other: Sequence[Sequence[float]], *, seed: int
) -> list[float] | None:
    """[low, high], 95 %, of the mean difference in reward between two models, from drawing the prompts again.

    ``first``, ``other``: by seed the reward of the answer to each prompt, (seeds, prompts), the same prompts
    in the same order. A prompt is drawn with the answers of all seeds, which are not independent.
    """
    change = (np.array(other, dtype=np.float64) - np.array(first, dtype=np.float64)).mean(axis=0)
    table = np.stack([change, np.ones(len(change))], axis=1)
    return bootstrap_interval(table, lambda sums: sums[:, 0] / sums[:, 1], seed=seed)
