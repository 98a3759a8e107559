"""Drawings: valid, described, in the colours of the page, thinned without losing spikes."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from helpers.logged_rows import SVG, elements, train

from hf_align.reporting.drawing import Plot
from hf_align.reporting.marks import MAX_POINTS, Line, look, thinned
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
    assert [plot.forms for plot in run_plots(rows)] == [plot.forms for plot in run_plots(rows)]


@pytest.mark.parametrize("name", [r"$\foo$", "$5 or $6", "50 % & <b>"])
def test_names_are_written_as_they_are(name):
    """Matplotlib would read what stands between dollars as a formula, and refuse this one."""

    plot = Plot("t", "s", "x", [Line([1, 2], [0, 1], name)], rows=[name, "b"])
    found = [text.text for element in elements(plot) for text in element.iter(f"{SVG}text")]
    assert found.count(name) == 2


@pytest.mark.parametrize(
    ("lowest", "highest", "shown"),
    [(1.0, 20.0, {"1", "2", "5", "10", "20"}), (1.0, 100_000.0, {"1", "100", "10,000"})],
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(lowest, highest, shown):
    (root,) = elements(Plot("t", "s", "x", [Line([1, 2], [lowest, highest])], scale="log"))
    found = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
    assert shown <= found and not any("mathdefault" in text or "^" in text for text in found)


def test_no_two_series_of_a_plot_look_alike():
    for dots, many in ((False, 12), (True, 24)):
        looks = [look(number, dots=dots) for number in range(many)]
        assert len({tuple(one.values()) for one in looks}) == many
        for one, other in itertools.pairwise(looks):
            assert {**one, "color": ""} != {**other, "color": ""}


def test_names_of_many_rows_do_not_lie_over_each_other():
    names = [f"row {number}" for number in range(24)]
    (root,) = elements(Plot("t", "s", "x", [Line(range(24), range(24))], rows=names))
    heights = sorted(float(text.get("y")) for text in root.iter(f"{SVG}text") if text.text in names)
    assert len(heights) == 24
    assert min(high - low for low, high in itertools.pairwise(heights)) > 9, "the size of the letters"
