"""The curves of a PPO run over its rollouts: rewards, distance from the reference, answers, updates.

Held-out prompts are diamonds. How drawings are made is in ``drawing``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import (
    FIRST,
    INK,
    SECOND,
    Plot,
    XAxis,
    bad_note,
    course,
    drawable,
    limit_spikes,
    sentence,
    start_at_zero,
    svg,
    thinned,
)
from hf_align.reporting.metrics import Series, rows_with, training_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

ROLLOUTS = XAxis("rollouts", "rollout", lambda value: f"{value:,.0f}", whole=True)
EVALUATED = "eval_reward/total"
"""In every line of an evaluation."""


@dataclass(frozen=True)
class _Drawing:
    """``keys``: one or two quantities with their names in the drawing; the first may have been evaluated."""

    title: str
    label: str
    keys: tuple[tuple[str, str], ...]
    form: Callable[[Any], str] = formatting.loss
    wide: bool = False


_DRAWINGS = (
    _Drawing("Reward", "mean reward of an answer", (("reward/total", ""),), wide=True),
    _Drawing("Distance from the reference", "KL estimate, nats per answer", (("kl", ""),)),
    _Drawing("Score and KL penalty", "mean of an answer", (("score", "score"), ("kl_penalty", "penalty"))),
    _Drawing("Entropy", "nats per token", (("entropy", ""),)),
    _Drawing("Length of the answers", "tokens", (("response_length", ""),)),
    _Drawing("Answers that end by themselves", "share", (("eos_rate", ""),), formatting.share),
    _Drawing(
        "Clipped tokens",
        "share",
        (("clip_fraction", "policy"), ("value_clip_fraction", "values")),
        formatting.share,
    ),
    _Drawing("Movement in an update", "approximate KL, nats per token", (("approx_kl", ""),)),
    _Drawing("Explained variance of the returns", "1 is all of it", (("explained_variance", ""),)),
    _Drawing("Value loss", "squared units of the score", (("value_loss", ""),)),
    _Drawing("KL coefficient", "score per nat", (("kl_coef", ""),)),
)


def ppo_plots(rows: Sequence[Row]) -> list[Plot]:
    """The drawings that the metrics allow; the parts of a reward are drawn where there are several."""
    train, evaluation = training_rows(rows), rows_with(rows, EVALUATED)
    parts = [
        key for key in (train[0] if train else {}) if key.startswith("reward/") and key != "reward/total"
    ]
    drawings = list(_DRAWINGS)
    if len(parts) > 1:
        named = [
            _Drawing(f"Reward {key.removeprefix('reward/')}", "mean, without its weight", ((key, ""),))
            for key in parts
        ]
        drawings[1:1] = named
    coefficients = drawable(train, "kl_coef").values
    plots = []
    for number, drawing in enumerate(drawings):
        if drawing.keys[0][0] == "kl_coef" and len(set(coefficients)) < 2:
            continue
        found = [drawable(train, key) for key, _ in drawing.keys]
        held_out = drawable(evaluation, f"eval_{drawing.keys[0][0]}")
        if any(series.values for series in (*found, held_out)):
            plots.append(_plot(f"ppo-{number}", drawing, found, held_out))
    return plots


def _plot(name: str, drawing: _Drawing, found: Sequence[Series], held_out: Series) -> Plot:
    every = [value for series in (*found, held_out) for value in series.values]

    def draw(axes: Axes) -> None:
        for place, ((_, label), series) in enumerate(zip(drawing.keys, found, strict=True)):
            if not series.values:
                continue
            steps, values = thinned(series.steps, series.values)
            style: dict[str, Any] = {"color": SECOND if place else FIRST, "linewidth": 1.6}
            if place:
                style["linestyle"] = (0, (5, 2))
            if len(values) < 3:  # a line between two points would claim a course that nobody measured
                style |= {"linestyle": "none", "marker": "o", "markersize": 4}
            axes.plot(steps, values, label=label or "sampled for training", **style)
        if held_out.values:
            style = {"linestyle": "none", "marker": "D", "markersize": 4.8, "color": SECOND}
            axes.plot(held_out.steps, held_out.values, label="held-out prompts", **style)
        axes.set_ylabel(drawing.label)
        limit_spikes(axes, every)
        if drawing.form is formatting.share:
            axes.set_ylim(0, max(0.02, min(1.04, 1.15 * max(every))))
        else:
            start_at_zero(axes, every)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2, fontsize=8.5)

    described = [
        f"{label + ' ' if label else ''}{course(series, drawing.form)}"
        for (_, label), series in zip(drawing.keys, found, strict=True)
        if series.values
    ]
    if held_out.values:
        described.append(f"held-out prompts {course(held_out, drawing.form)}")
    summary = sentence("; ".join(described).replace("steps ", "rollouts ").replace("at step ", "at rollout "))
    sizes = ("wide", "narrow") if drawing.wide else ("small",)
    forms = {size: svg(draw, f"{name}-{size}", size, drawing.title, summary, ROLLOUTS) for size in sizes}
    return Plot(drawing.title, summary, forms, bad_note(*found, held_out))
