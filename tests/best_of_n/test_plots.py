"""The curve of Best-of-N, as far as its points are finite."""

from __future__ import annotations

from hf_align.best_of_n.curve import best_of_n_curve
from hf_align.best_of_n.plots import best_of_n_plots


def test_points_that_can_be_drawn() -> None:
    curve = best_of_n_curve([[1.0, 2.0, 4.0, 3.0], [0.0, 1.0, 0.0, 5.0]])
    plots = best_of_n_plots(curve)
    assert plots and all("<svg" in form for plot in plots for form in plot.forms.values())
    assert all(plot.summary.endswith(".") and plot.title for plot in plots)
    broken = [{**point, "reward": float("nan")} for point in curve[1:]]
    assert best_of_n_plots(curve[:1]) == best_of_n_plots([*curve[:1], *broken]) == []
