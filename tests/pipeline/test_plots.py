"""A measure of every stage's model, with each seed's."""

from __future__ import annotations

from hf_align.pipeline.plots import measure_plot

METRICS = {
    "base": {"mean": 0.25, "interval": [], "by_seed": []},
    "sft": {"mean": 0.5, "interval": [0.4, 0.6], "by_seed": [0.45, 0.55]},
}


def test_models_and_seeds() -> None:
    plot = measure_plot(METRICS, "accuracy", share=True, name="p", seeds=2)
    assert plot is not None and "base 25" in plot.summary and "sft 50" in plot.summary
    assert "mean over 2 seeds" in plot.note
    alone = measure_plot(METRICS, "accuracy", share=True, name="p", seeds=1)
    assert alone is not None and alone.note == "Lines: 95 % intervals."


def test_nothing_to_compare() -> None:
    same = {name: {"mean": 0.5} for name in METRICS}
    for metrics in (same, {"base": METRICS["base"]}, {"a": {"mean": "x"}, "b": {"mean": 1}}, {}):
        assert measure_plot(metrics, "m", share=False, name="p", seeds=1) is None
