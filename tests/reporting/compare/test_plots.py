"""Drawings of several runs: each keeps its colour and its letter."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from helpers.compared_runs import run

from hf_align.reporting.compare.plots import comparison_plots, legend, run_style


def test_any_logged_number_is_drawn():
    """Keys of a stage that nobody here knows, with every character a key can have."""
    odd = r"rewards/margins: \1 «x» & 'y'"
    ppo = run(
        "B", command="ppo", rows=[{"step": s, odd: float(s), "objective/kl": 0.1 * s} for s in range(5)]
    )
    plots, minor = comparison_plots([run("A"), ppo])
    titles = [plot.title for plot in plots]
    assert titles[:3] == ["Training loss", "Training loss over time", "Training loss over tokens"]
    assert titles[-2:] == [odd, "objective/kl"]
    assert [plot.title for plot in minor] == ["target_tokens", "eval_target_tokens"]
    ids = []
    for plot in [*plots, *minor]:
        for form in plot.forms.values():
            tree = ElementTree.fromstring(str(form))
            ids += [node.get("id") for node in tree.iter() if node.get("id")]
            assert not re.search(r"(?:stroke|fill): #", str(form))
    assert len(ids) == len(set(ids))
    assert plots[-1].summary == "Last values: B 0.4."


def test_curves_keep_their_colour_and_letter():
    (loss, *_), _ = comparison_plots([run("A", rows=[]), run("B"), run("C")])
    for form in loss.forms.values():
        text = str(form)
        assert "var(--run-1)" not in text and "var(--run-2)" in text and "var(--run-3)" in text
        assert re.search(r">\s*B\s*</text>", text) and re.search(r">\s*C\s*</text>", text)
    shown = legend([run("A"), run("B")])
    assert [look["color"] for look in shown] == ["var(--run-1)", "var(--run-2)"]
    assert shown[0]["dashes"] == "" != shown[1]["dashes"]


def test_no_two_of_64_runs_look_alike():
    assert len({run_style(number) for number in range(64)}) == 64
    assert len({run_style(number)[1] for number in range(8)}) == 8  # eight runs differ by dashes alone


def test_time_and_tokens_axes():
    from hf_align.reporting.compare.plots import _other_axes, _over
    from hf_align.runs.metrics import Series

    (time, times), (tokens, seen) = _other_axes([run("A")])
    assert time.label == "seconds since the start" and times[0][3] == 30.0
    assert tokens.text(4_880_000) == "4.88 M" and seen[0] == {step: 50.0 * step for step in range(1, 9)}
    # An evaluation stands at the tokens of the last step before it; before the first step there were none.
    moved = _over(Series([0.0, 4.5, 9.0], [3.0, 2.0, 1.0], []), seen[0])
    assert moved.steps == [0.0, 200.0, 400.0] and moved.values == [3.0, 2.0, 1.0]
