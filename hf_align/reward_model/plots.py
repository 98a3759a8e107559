"""Plots of what an evaluation of a reward model found: reliability, length bias, distributions of scores.

The curves over training are those of every stage that compares answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from hf_align.reporting.drawing import Plot, XAxis, sentence
from hf_align.reporting.marks import FAINT, FIRST_SOFT, SOLID, Histogram, Level, Line, look, numbers, points
from hf_align.reporting.run_view import listing, mapping
from hf_align.runs import formatting
from hf_align.statistics.calibration import wilson_interval

_LARGEST_MARKER = 90.0
"""Area of a marker that stands for all pairs, in square points."""
_LOOKS = {
    "before": {**look(1, dots=True), "label": "before training", "hollow": True},
    "after": {**look(0, dots=True), "label": "after training"},
}
_SHARES: dict[str, Any] = {"y_limits": (-0.03, 1.2), "legend": "top"}


def reward_plots(evaluations: Mapping[str, Any]) -> list[Plot]:
    """The plots that the evaluations, ``before`` and ``after`` training, allow."""
    known = {when: mapping(evaluations.get(when)) for when in _LOOKS}
    plots = [_reliability(known), _lengths(known), *(_scores(known[when], when) for when in known)]
    return [plot for plot in plots if plot is not None]


def _reliability(evaluations: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Confidence against the share that was right."""
    marks: list[Any] = [Line([0.5, 1], [0.5, 1], "as it says", width=1, **look(2))]
    told = []
    for when, found in evaluations.items():
        rows = points(listing(found.get("reliability")), "confidence", "accuracy", "share")
        if rows:
            confidence, accuracy, shares = zip(*rows, strict=True)
            if when == "after":
                marks.append(Line(confidence, accuracy, color=FIRST_SOFT, width=1.2))
            sizes = [(12 + _LARGEST_MARKER * share) ** 0.5 for share in shares]
            marks.append(Line(confidence, accuracy, size=sizes, **_LOOKS[when]))
            told.append(f"{when} training the calibration error is {formatting.loss(found.get('ece'))}")
    if not told:
        return None
    note = "A marker's area grows with its share of the pairs; above the dotted line the model is too modest."
    x = XAxis("confidence", "confidence in the predicted order")
    y, limits = "share that was right", (0.485, 1.015)
    title = "Reliability"
    return Plot(title, sentence(*told), "reward-reliability", marks, x, y, note, x_limits=limits, **_SHARES)


def _lengths(evaluations: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Accuracy by the difference in length of the two answers, with 95 % intervals."""
    marks: list[Any] = [Level((0.5,), "chance")]
    names: list[str] = []
    summary = ""
    for (when, found), shift in zip(evaluations.items(), (-0.09, 0.09), strict=True):
        quantiles = listing(mapping(found.get("by_length")).get("quantiles"))
        rows = points(quantiles, "accuracy", "share", "lower", "upper")
        if not rows:
            continue
        prompts = formatting.finite(found.get("prompts")) or 0.0
        places = [place + shift for place in range(len(rows))]
        shares = [row[0] for row in rows]
        for place, (accuracy, share, *_) in zip(places, rows, strict=True):
            limits = wilson_interval(accuracy, share * prompts)
            marks.append(Line([place, place], limits, color=_LOOKS[when]["color"], width=1.1))
        marks.append(Line(places, shares, size=5, **_LOOKS[when]))
        ranges = [_range(*row[2:]) for row in rows]
        names = names or ranges
        told = zip(map(formatting.share, shares), ranges, strict=True)
        listed = ", ".join(f"{share} at {limits}".replace("\n", " ") for share, limits in told)
        summary = sentence(f"{when} training {listed} tokens (chosen minus rejected answer)")
    if not names:
        return None
    title = "Accuracy by difference in length"
    x = XAxis("length", "tokens of the chosen answer minus those of the rejected")
    y = "share in the right order"
    return Plot(title, summary, "reward-length", marks, x, y, columns=names, **_SHARES)


def _scores(evaluation: Mapping[str, Any], when: str) -> Plot | None:
    """How the scores of chosen and rejected answers are distributed."""
    found = mapping(evaluation.get("scores"))
    # Runs of earlier versions call them better and worse.
    shares = (found.get("chosen", found.get("better")), found.get("rejected", found.get("worse")))
    edges, chosen, rejected = (numbers(each) for each in (found.get("edges"), *shares))
    if len(edges) < 2 or len(chosen) != len(edges) - 1 or len(rejected) != len(chosen):
        return None
    marks: list[Any] = [
        Histogram(edges, chosen, "chosen answers", **look(0)),
        Histogram(edges, rejected, "rejected answers", **look(1)),
    ]
    if edges[0] < 0 < edges[-1]:
        marks.append(Level((0,), color=FAINT, dashes=SOLID, of="x"))
    summary = sentence(
        f"chosen answers score about {_mean_of(edges, chosen):.2g} on average and rejected ones "
        f"{_mean_of(edges, rejected):.2g}; all lie between {edges[0]:.3g} and {edges[-1]:.3g}"
    )
    title, x, y = f"Scores {when} training", XAxis("score", "score"), "share of the answers"
    return Plot(title, summary, f"reward-scores-{when}", marks, x, y, scale="zero", legend="top")


def _range(low: float, high: float) -> str:
    low_text, high_text = (f"{limit:.0f}".replace("-", "−") for limit in (low, high))
    return low_text if low_text == high_text else f"{low_text}\nto {high_text}"


def _mean_of(edges: Sequence[float], heights: Sequence[float]) -> float:
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    weighted = sum(middle * height for middle, height in zip(middles, heights, strict=True))
    return weighted / (sum(heights) or 1.0)
