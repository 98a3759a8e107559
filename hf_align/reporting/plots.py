"""The curves of one run.

Each drawing comes in the sizes that the page shows it in. Which curves exist is decided here; how they are
drawn is in ``drawing``, and what surrounds them belongs to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.drawing import (
    FIRST,
    FIRST_SOFT,
    INK,
    SECOND,
    STEPS,
    Plot,
    XAxis,
    bad_note,
    binary_unit,
    course,
    drawable,
    limit_spikes,
    sentence,
    start_at_zero,
    svg,
    thinned,
)
from hf_align.reporting.metrics import Series, evaluation_rows, smoothed, training_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def run_plots(rows: Sequence[Mapping[str, Any]], x: XAxis = STEPS) -> list[Plot]:
    """The plots that the metrics allow, the loss first; an empty list if nothing was logged.

    ``rows``: the lines of ``metrics.jsonl`` in order (see ``metrics.read_metrics``). ``x``: what a step is.
    """
    train, evaluation = training_rows(rows), evaluation_rows(rows)
    losses, eval_losses = drawable(train, "loss"), drawable(evaluation, "eval_loss")
    plots = []
    if losses.values or eval_losses.values:
        by_prompt = any("prompts" in row for row in train) or any("eval_prompts" in row for row in evaluation)
        by_row = any("rows" in row for row in train) or any("eval_rows" in row for row in evaluation)
        label = "loss, nats per row" if by_row else "loss, nats per target token"
        label = "loss per prompt" if by_prompt else label
        plots.append(_loss_plot(losses, eval_losses, label))
    for key, title, unit, form in (
        ("learning_rate", "Learning rate", "", formatting.loss),
        ("grad_norm", "Gradient norm", "", formatting.loss),
        ("tokens_per_second", "Throughput", "tokens/s", formatting.rate),
        ("peak_memory_bytes", "Peak memory", "", formatting.size),
    ):
        values = drawable(train, key)
        if values.values:
            plots.append(_single_plot(key, title, unit, values, form, x))
    return plots


def _loss_plot(train: Series, evaluation: Series, label: str) -> Plot:
    def draw(axes: Axes) -> None:
        if train.values:
            many = len(train.values) > 5
            steps, values = thinned(train.steps, train.values)
            marker: dict[str, Any] = {} if len(train.values) > 1 else {"marker": "o", "markersize": 4}
            color = FIRST_SOFT if many else FIRST
            axes.plot(steps, values, color=color, linewidth=1, label="training", **marker)
            if many:
                steps, values = thinned(train.steps, smoothed(train.values))
                axes.plot(steps, values, color=FIRST, linewidth=1.9, label="training, smoothed")
        if evaluation.values:
            steps, values = thinned(evaluation.steps, evaluation.values)
            style: dict[str, Any] = {
                "linestyle": (0, (4, 2)),
                "marker": "D",
                "markersize": 4.5,
                "linewidth": 1.3,
            }
            if len(steps) < 3:  # a line between two points would claim a course that nobody measured
                style["linestyle"] = "none"
            axes.plot(steps, values, color=SECOND, label="held-out", **style)
        axes.set_ylabel(label)
        limit_spikes(axes, train.values + evaluation.values)
        start_at_zero(axes, train.values + evaluation.values)
        axes.legend(frameon=False, loc="best", labelcolor=INK, handlelength=2.2)

    parts = [
        f"{name} loss {course(values, formatting.loss)}"
        for name, values in (("training", train), ("held-out", evaluation))
        if values.values
    ]
    summary = sentence("; ".join(parts))
    forms = {name: svg(draw, f"loss-{name}", name, "Loss", summary) for name in ("wide", "narrow")}
    return Plot("Loss", summary, forms, bad_note(train, evaluation))


def _single_plot(key: str, title: str, unit: str, values: Series, form: Any, x: XAxis) -> Plot:
    def draw(axes: Axes) -> None:
        steps, points = thinned(values.steps, values.values)
        scale = binary_unit(points) if form is formatting.size else (1.0, unit)
        points = [point / scale[0] for point in points]
        marker: dict[str, Any] = {} if len(points) > 1 else {"marker": "o", "markersize": 4}
        axes.plot(steps, points, color=FIRST, linewidth=1.5, **marker)
        axes.set_ylabel(scale[1])
        limit_spikes(axes, points)
        start_at_zero(axes, points)

    ending = f" {unit}" if unit else ""
    summary = sentence(course(values, form, ending))
    return Plot(title, summary, {"small": svg(draw, key, "small", title, summary, x)}, bad_note(values))
