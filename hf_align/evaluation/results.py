"""Figures of several models side by side: differences from the first with intervals, and a table as text.

What each kind of measurement is called, which of its metrics head it and how they are written is in
``KINDS``, for the terminal and the report alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.runs.columns import aligned
from hf_align.runs.formatting import MISSING, number
from hf_align.statistics.bootstrap import bootstrap_interval

Results = dict[str, dict[str, dict[str, dict[str, Any]]]]


@dataclass(frozen=True)
class TaskKind:
    """``metrics``: keys and what they are called; the first that a task has is its main one. ``count``: the
    key of the number of items. ``share``: metrics are shares of one, but for ``numbers``; a kind without
    ``metrics``, which then come with each task, holds those called ``acc…`` or ``exact_match…`` for shares.
    ``higher``: whether more is better, where the task does not say."""

    title: str
    metrics: Mapping[str, str]
    count: str
    share: bool = True
    numbers: frozenset[str] = field(default_factory=frozenset)
    higher: bool = True

    def is_share(self, key: str) -> bool:
        """Whether a metric is written in per cent."""
        if not self.metrics:
            return key.startswith(("acc", "exact_match"))
        return self.share and key not in self.numbers


KINDS: dict[str, TaskKind] = {
    "perplexity": TaskKind(
        "Perplexity",
        {
            "bits_per_byte": "bits per byte",
            "bits_per_character": "bits per character",
            "perplexity": "perplexity",
        },
        "documents",
        share=False,
        higher=False,
    ),
    "multiple_choice": TaskKind(
        "Multiple choice",
        {
            "accuracy": "accuracy",
            "accuracy_by_tokens": "accuracy, per token",
            "accuracy_by_characters": "accuracy, per character",
        },
        "questions",
    ),
    "lm_eval": TaskKind("lm-eval tasks", {}, "documents"),
    "generation": TaskKind(
        "Generation",
        {
            "call_exact": "calls exactly right",
            "call_name": "right function called",
            "no_call": "no call where none is due",
            "call_rows": "rows with a call",
            "exact_match": "exact match",
            "f1": "F1",
            "rouge_l": "ROUGE-L",
            "bleu": "BLEU",
            "checks_passed": "checks passed",
            "stopped": "stopped by itself",
            "agreement": "samples that agree",
            "tokens": "tokens",
        },
        "rows",
        numbers=frozenset({"tokens", "call_rows"}),
    ),
    "preferences": TaskKind(
        "Preferences",
        {
            "accuracy": "accuracy",
            "accuracy_by_sums": "accuracy, whole answers",
            "mean_margin": "mean margin",
            "mean_reward": "mean reward",
            "ece": "calibration error",
        },
        "prompts",
        numbers=frozenset({"mean_margin", "mean_reward", "ece"}),
    ),
    "reward": TaskKind("Reward of the answers", {"reward": "mean reward"}, "rows", share=False),
    "win_rate": TaskKind(
        "Win rate",
        {
            "win_rate": "win rate",
            "wins": "wins",
            "ties": "ties",
            "losses": "losses",
            "consistent": "judge consistent",
            "first_place": "for the first place",
            "unreadable": "no verdict",
            "refused": "refused",
        },
        "prompts",
    ),
}


def metric_names(kind: str, by_model: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    """The metrics that a task may have by key, with what they are called: the kind's, or else the task's."""
    own = [key for each in by_model.values() for key in each.get("metrics") or ()]
    return KINDS[kind].metrics or {key: key.replace(",", ", ") for key in own}


def main_metric(kind: str, by_model: Mapping[str, Mapping[str, Any]]) -> str:
    """The key of the metric that stands for a task; an empty text where it has none."""
    known = metric_names(kind, by_model)
    present = (key for key in known if any(each.get(key) is not None for each in by_model.values()))
    return next(present, next(iter(known), ""))


def higher_is_better(kind: str, by_model: Mapping[str, Mapping[str, Any]], key: str) -> bool:
    """Whether more of a metric is better: as the task says, or else its kind."""
    said = [(each.get("metrics") or {}).get(key) for each in by_model.values()]
    known = [each for each in said if isinstance(each, bool)]
    return known[0] if known else KINDS[kind].higher


def with_differences(
    results: Results,
    items: Mapping[tuple[str, str, str], npt.NDArray[np.float64]],
    models: Sequence[str],
    *,
    seed: int,
) -> None:
    """Give every metric of another model than the first its ``difference`` from that one: ``value`` and
    ``interval``, 95 %, from drawing the items again, the same for both models.

    ``items``: see ``Evaluation``. Left out where the models did not answer the same items.
    """
    first = models[0]
    for kind, tasks in results.items():
        for task, by_model in tasks.items():
            ours = items.get((kind, task, first))
            for model, metrics in by_model.items():
                theirs = items.get((kind, task, model))
                if model == first or ours is None or theirs is None or len(ours) != len(theirs):
                    continue
                metrics["difference"] = _difference(ours, theirs, seed)


def _difference(first: npt.NDArray[np.float64], other: npt.NDArray[np.float64], seed: int) -> dict[str, Any]:
    def metric(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return sums[:, 2] / np.maximum(sums[:, 3], 1) - sums[:, 0] / np.maximum(sums[:, 1], 1)

    table = np.concatenate([first, other], axis=1)
    value = float(metric(table.sum(axis=0, keepdims=True))[0])
    return {"value": value, "interval": bootstrap_interval(table, metric, seed=seed)}


def written(kind: str, metrics: Mapping[str, Any], key: str) -> str:
    """A metric with its interval, if it has one: ``41.2 % [33.0, 49.9]``, ``1.203 [1.15, 1.26]``."""
    share = KINDS[kind].is_share(key)
    # In run.json a number that is not finite is a string.
    value, *interval = map(number, [metrics.get(key), *(metrics.get(f"{key}_interval") or ())])
    if value is None:
        return MISSING
    text = _number(value, share)
    limits = [_number(limit, share).removesuffix(" %") for limit in interval if limit is not None]
    return f"{text} [{', '.join(limits)}]" if len(limits) == 2 else text


def difference_written(kind: str, metrics: Mapping[str, Any]) -> str:
    """``+3.1 points [-1.0, +7.2]``; an empty string for the first model."""
    difference = metrics.get("difference")
    if not difference:
        return ""
    share = KINDS[kind].is_share(main_metric(kind, {"": metrics}))
    scale, unit = (100, " points") if share else (1, "")
    form = "+.1f" if share else "+.4f"
    text = f"{scale * difference['value']:{form}}{unit}"
    if not difference["interval"]:
        return text
    low, high = (f"{scale * limit:{form}}" for limit in difference["interval"])
    return f"{text} [{low}, {high}]"


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"


def table_lines(results: Results, models: Sequence[str]) -> list[str]:
    """All results as a text table: a row a metric, a column a model."""
    rows = [["", "", *models]]
    for kind, tasks in results.items():
        for task, by_model in tasks.items():
            for place, (key, name) in enumerate(shown_metrics(kind, by_model).items()):
                cells = [written(kind, by_model.get(model, {}), key) for model in models]
                rows.append(["" if place else task, name, *cells])
            changes = [difference_written(kind, by_model.get(model, {})) for model in models]
            if any(changes):
                main = metric_names(kind, by_model)[main_metric(kind, by_model)]
                rows.append(["", f"{main}, difference", *changes])
    head, *lines = aligned(rows)
    return [head, "-" * max(map(len, (head, *lines))), *lines]


def shown_metrics(kind: str, by_model: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The metrics of a task that some model has, by key, with what they are called; those that are variants
    of the main one and equal it for every model, as where all choices are one letter long, are left out."""
    main = main_metric(kind, by_model)

    def says_more(key: str) -> bool:
        # What a task of lm-eval calls acc_norm is expected there, whatever it comes to.
        variant = bool(KINDS[kind].metrics) and key.startswith(f"{main}_")
        known = [each for each in by_model.values() if each.get(key) is not None]
        return any(not variant or each[key] != each.get(main) for each in known)

    names = metric_names(kind, by_model)
    return {key: name for key, name in names.items() if key == main or says_more(key)}
