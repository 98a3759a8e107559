"""The curves: whole, unique, silent about nothing, and drawn without the network or a display."""

from __future__ import annotations

import math

import pytest
from helpers.logged_rows import SVG, elements, train

from hf_align.reporting.plots import run_plots


def test_nothing_logged_draws_nothing():
    assert run_plots([]) == []
    assert run_plots([{"step": 1, "epoch": 1.0}, {"loss": 1.0}]) == []


def test_every_quantity_that_was_logged_has_a_plot():
    rows = [
        train(step, grad_norm=1.0, tokens_per_second=1800.0, peak_memory_bytes=2**30, epoch=0.1)
        for step in (1, 2, 3)
    ]
    plots = run_plots(rows)
    assert [plot.title for plot in plots] == [
        "Loss",
        "Learning rate",
        "Gradient norm",
        "Throughput",
        "Peak memory",
    ]
    assert set(plots[0].forms) == {"wide", "narrow"}


def test_summaries_state_the_numbers():
    rows = [
        train(1, grad_norm=2.0),
        {"step": 1, "eval_loss": 0.9},
        train(4, grad_norm=8.0),
        train(5, grad_norm=3.0),
    ]
    loss, _rate, norm = run_plots(rows)
    assert loss.summary == "Training loss from 1 to 0.2, steps 1 to 5; held-out loss 0.9 at step 1."
    assert norm.summary == "From 2 to 3 (highest 8), steps 1 to 5."


def test_the_three_loss_series_are_drawn_and_named():
    rows = [train(step) for step in range(1, 30)] + [{"step": 3, "eval_loss": 0.5}]
    wide = elements(run_plots(rows)[0])[0]
    words = {node.text for node in wide.iter(f"{SVG}text")}
    assert {"training", "training, smoothed", "held-out", "optimizer step"} <= words


def test_one_step_is_a_point():
    plot = run_plots([train(1)])[0]
    assert plot.summary == "Training loss 1 at step 1."
    assert all("1.5" not in {node.text for node in element.iter(f"{SVG}text")} for element in elements(plot))


def test_values_that_are_not_finite_are_named_not_drawn():
    rows = [train(1), train(2, loss="NaN", grad_norm=math.inf), train(3, loss=1.7e308)]
    loss = run_plots(rows)[0]
    assert loss.note == "Not drawn: at steps 2, 3 the values were not finite (NaN, infinite or beyond 1e+30)."
    assert "nan" not in str(loss.forms["wide"]).lower()


def test_nothing_but_nan_gives_no_plot_of_it():
    assert [plot.title for plot in run_plots([train(1, loss="NaN")])] == ["Learning rate"]


def test_a_spike_turns_the_axis_logarithmic():
    rows = [train(step, grad_norm=1.0) for step in range(1, 20)] + [train(20, grad_norm=1e4)]
    norm = run_plots(rows)[2]
    assert norm.summary == "From 1 to 1e+04, steps 1 to 20."
    assert "mathdefault" in str(norm.forms["small"]) or "10" in str(norm.forms["small"])


def test_a_loss_that_falls_far_keeps_a_linear_axis():
    plot = run_plots([train(step, loss=2.0 * 0.9**step) for step in range(1, 80)])[0]
    words = {node.text for node in elements(plot)[0].iter(f"{SVG}text")}
    assert "0" in words
    assert "1.6" in words or "1.5" in words


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_constant_and_negative_values(value):
    assert (
        run_plots([train(step, loss=value, learning_rate=value) for step in (1, 2, 3)])[1].title
        == "Learning rate"
    )
