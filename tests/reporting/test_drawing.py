"""Drawings: valid, described, in the colours of the page, thinned without losing spikes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from helpers.logged_rows import SVG, elements, train

from hf_align.reporting.drawing import MAX_POINTS, svg, thinned
from hf_align.reporting.plots import run_plots


def test_drawings_are_valid_described_and_do_not_share_ids():
    rows = [train(step, grad_norm=float(step)) for step in range(1, 30)] + [{"step": 29, "eval_loss": 0.5}]
    found: list[str] = []
    for plot in run_plots(rows):
        for element in elements(plot):
            assert element.tag == f"{SVG}svg"
            assert element.get("role") == "img"
            assert element.find(f"{SVG}title").text == plot.title
            assert element.find(f"{SVG}desc").text == plot.summary
            ids = [node.get("id") for node in element.iter() if node.get("id")]
            assert set(element.get("aria-labelledby").split()) <= set(ids)
            text = ElementTree.tostring(element, encoding="unicode")
            assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
            found += ids
    assert len(found) == len(set(found))


def test_all_colours_come_from_the_page():
    rows = [train(step) for step in range(1, 30)] + [{"step": 3, "eval_loss": 0.5}]
    for plot in run_plots(rows):
        for form in plot.forms.values():
            assert not re.search(r"(?:stroke|fill): #", str(form))
            assert "var(--series-1)" in form


def test_long_runs_are_thinned_and_keep_their_spikes():
    values = [0.0] * 10_000
    values[4321], values[77] = 9.0, -3.0
    steps, kept = thinned([float(step) for step in range(10_000)], values)
    assert len(kept) <= MAX_POINTS + 2
    assert dict(zip(steps, kept, strict=True))[4321.0] == 9.0
    assert dict(zip(steps, kept, strict=True))[77.0] == -3.0
    assert (steps[0], steps[-1]) == (0.0, 9999.0)
    assert steps == sorted(steps)


def test_the_same_metrics_give_the_same_drawing():
    rows = [train(step) for step in range(1, 9)]
    assert run_plots(rows) == run_plots(rows)


@pytest.mark.parametrize("name", [r"$\foo$", "$5 or $6", "50 % & <b>"])
def test_names_are_written_as_they_are(name):
    """Matplotlib would read what stands between dollars as a formula, and refuse this one."""

    def curve(axes):
        axes.plot([1, 2], [1, 2], label=name)
        axes.set_yticks([1, 2], [name, "b"])
        axes.legend()

    found = [
        text.text
        for text in ElementTree.fromstring(str(svg(curve, "x", "small", "t", "s"))).iter(f"{SVG}text")
    ]
    assert found.count(name) == 2


@pytest.mark.parametrize(
    ("lowest", "highest", "shown"),
    [(1.0, 20.0, {"1", "2", "5", "10", "20"}), (1.0, 100_000.0, {"1", "100", "10,000"})],
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(lowest, highest, shown):
    def curve(axes):
        axes.plot([1, 2], [lowest, highest])
        axes.set_yscale("log")

    root = ElementTree.fromstring(str(svg(curve, "x", "small", "t", "s")))
    found = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
    assert shown <= found and not any("mathdefault" in text or "^" in text for text in found)
