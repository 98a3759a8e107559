"""The curves of a preference run: rewards and probabilities of the two answers, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.drawing import Plot
from hf_align.reporting.marks import Level
from hf_align.reporting.plots import MANY_POINTS, Curves, curve_plots, drawable
from hf_align.runs import formatting
from hf_align.runs.metrics import evaluation_rows, training_rows

_CHANGE = "logps/chosen_change"


def _of_both(kind: str) -> dict[str, str]:
    return {f"{kind}/chosen": "chosen answers", f"{kind}/rejected": "rejected answers"}


TABLE = (
    Curves("Rewards", "reward", _of_both("rewards")),
    Curves("Reward margin", "chosen minus rejected", {"rewards/margins": ""}),
    Curves(
        "Pairs in the right order", "share", {"rewards/accuracies": ""}, formatting.share, y_limits=(0, 1.04)
    ),
    Curves("Log-probability of the answers", "nats per answer", _of_both("logps")),
    Curves("Change of the chosen answers", "nats per token", {_CHANGE: ""}),
    Curves("Distance from the reference", "nats per token", {"kl": ""}),
)


def preference_plots(rows: Sequence[Mapping[str, Any]], *, bound: float | None = None) -> list[Plot]:
    """The plots that the metrics allow. ``bound``: the fall of the chosen answers that is warned about."""
    train, evaluation = training_rows(rows), evaluation_rows(rows)
    found = drawable(train, _CHANGE).values + drawable(evaluation, f"eval_{_CHANGE}").values
    # Only where it is near: it would flatten a curve that is far from it.
    near = bound is not None and min(found, default=0.0) < -0.6 * bound
    asides = {_CHANGE: ([Level((-bound,), "warned below")], "")} if bound is not None and near else {}
    settings: Any = {"said": ("training", "held-out"), "smooth_from": MANY_POINTS, "asides": asides}
    return curve_plots(TABLE, "preference", train, evaluation, **settings)
