"""Every plot that a stage states: from its keys, from fewer, from NaN, from one point and from thousands."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers import raft_records, reward_records, watch_records
from helpers.logged_rows import SVG

from hf_align.best_of_n.curve import best_of_n_curve
from hf_align.best_of_n.plots import best_of_n_plots
from hf_align.best_of_n.raft.plots import raft_plots
from hf_align.classify.plots import confusion_plot
from hf_align.evaluation.plots import subject_plot, task_plot
from hf_align.pipeline.plots import measure_plot
from hf_align.preference import plots as preference
from hf_align.reporting import plots as every_run
from hf_align.reporting.drawing import Plot
from hf_align.reporting.marks import MAX_POINTS
from hf_align.reporting.plots import Curves
from hf_align.reward_model.plots import reward_plots
from hf_align.rl import plots as ppo
from hf_align.rl.watch import plots as watch
from hf_align.runs import formatting
from hf_align.tokenization.report import tokenizer_view

Rows = list[dict[str, Any]]

STAGES: dict[str, tuple[tuple[Curves, ...], Callable[[Rows], list[Plot]]]] = {
    "every run": (every_run.RUN_TABLE, every_run.run_plots),
    "preference": (preference.TABLE, lambda rows: preference.preference_plots(rows, bound=0.5)),
    "ppo": (ppo.TABLE, ppo.rl_plots),
    "watch": (watch.LIMITED, lambda rows: watch.watch_plots(watch_records.record(), rows)),
}
"""Tables of curves over the steps, and what draws them."""

CURVES = [(stage, entry) for stage, (table, _) in STAGES.items() for entry in table]
NAMES = [f"{stage}: {entry.title}" for stage, entry in CURVES]


def stated(stage: str, entry: Curves, rows: Rows) -> Plot | None:
    """The plot of ``entry``, checked; ``rows`` need not hold what marks them as training."""
    found = STAGES[stage][1]([{"learning_rate": 0.1, **row} for row in rows])
    assert len({plot.name for plot in found}) == len(found)
    (plot,) = [plot for plot in found if plot.title == entry.title] or [None]
    if plot is not None:
        check(plot)
    return plot


def check(plot: Plot) -> None:
    """Words, and nothing that an axis cannot hold."""
    assert plot.title and re.search(r"\d", plot.summary) and plot.summary.endswith(".")
    for mark in plot.marks:
        values = [part for part in vars(mark).values() if isinstance(part, list | tuple)]
        values = [
            value for part in values for row in part for value in (row if isinstance(row, list) else [row])
        ]
        assert all(math.isfinite(value) for value in values if not isinstance(value, str))


def check_drawings(plot: Plot) -> list[ElementTree.Element]:
    assert list(plot.forms) == list(plot.sizes)
    roots = [ElementTree.fromstring(str(form)) for form in plot.forms.values()]
    for root, form in zip(roots, plot.forms.values(), strict=True):
        assert root.find(f"{SVG}title").text == plot.title and root.find(f"{SVG}desc").text == plot.summary
        assert not re.search(r"(?:stroke|fill): #", str(form)), "colours come from the page"
        paths = " ".join(path.get("d", "") for path in root.iter(f"{SVG}path")).lower()
        assert paths and "nan" not in paths and "inf" not in paths
    return roots


def wave(step: int) -> float:
    return 0.5 + 0.25 * math.sin(step)


@pytest.mark.parametrize(("stage", "entry"), CURVES, ids=NAMES)
def test_curves(stage: str, entry: Curves) -> None:
    def rows(*steps: int, **changes: Any) -> Rows:
        return [{"step": step, **{key: wave(step) for key in entry.keys}, **changes} for step in steps]

    one = stated(stage, entry, rows(7))
    if "kl_coef" in entry.keys:
        assert one is None, "it did not move"
    else:
        assert one is not None and "7" in one.summary and not one.note
        check_drawings(one)
    few = stated(stage, entry, rows(*range(1, 12)))
    assert few is not None and "1 to 11" in few.summary and not few.note
    assert few.y == ("MiB" if entry.form is formatting.size else entry.y)
    check_drawings(few)
    many = stated(stage, entry, rows(*range(1, 5001)))
    assert many is not None and "1 to 5,000" in many.summary
    longest = max(path.get("d", "").count("L") for path in check_drawings(many)[0].iter(f"{SVG}path"))
    assert 20 < longest <= MAX_POINTS + 2

    for bad in ("NaN", math.inf, 1e35):
        nothing = dict.fromkeys(entry.keys, bad)
        broken = stated(stage, entry, [*rows(1, 2), *rows(3, **nothing), *rows(4)])
        assert broken is not None and "at step 3 the value was not finite" in broken.note
        assert stated(stage, entry, rows(1, 2, 3, **nothing)) is None, "nothing is left"
    for missing in entry.keys:
        left = stated(stage, entry, rows(1, 2, 3, **{missing: None}))
        assert (left is not None) == (len(entry.keys) > 1), "what is left of two is drawn"


@pytest.mark.parametrize("stage", ["preference", "ppo"])
def test_held_out_prompts_are_diamonds(stage: str) -> None:
    table, plots = STAGES[stage]
    keys = [key for entry in table for key in entry.keys]
    logged = [{"step": s, "learning_rate": 1.0, **{key: wave(s) for key in keys}} for s in range(1, 40)]
    held_out = [
        {"step": s, "eval_loss": 1.0, ppo.EVALUATED: 1.0, **{f"eval_{key}": 0.5 * wave(s) for key in keys}}
        for s in (0, 20, 39)
    ]
    rows = [held_out[0], *logged[:20], held_out[1], *logged[20:], held_out[2]]
    found = {plot.title: plot for plot in plots(rows)}
    for entry in table:
        diamonds = [mark for mark in found[entry.title].marks if getattr(mark, "marker", "") == "D"]
        assert [len(mark.y) for mark in diamonds] == [3] * len(entry.keys)
        assert "held-out" in found[entry.title].summary
        check(found[entry.title])


MODELS = {
    name: {
        "accuracy": share,
        "accuracy_interval": [share - 0.1, share + 0.1],
        "chance": 0.25,
        "subjects": {f"subject {i}": {"accuracy": share + i / 50} for i in range(5)},
    }
    for name, share in (("base", 0.25), ("sft", 0.5))
}
MEASURES = {"base": {"mean": 0.2}, "sft": {"mean": 0.5, "interval": [0.4, 0.6], "by_seed": [0.45, 0.55]}}
CHECKED = {"answers": 8, "mean": 1.5, "min": 1.0, "max": 2.0, "edges": [1.0, 1.5, 2.0], "counts": [4, 4]}
TOKENIZER = [{"name": name, "points": [[1, 90], [10, 9], [100, 1]]} for name in ("a", "b")]

RECORDS: dict[str, tuple[Any, Callable[[Any], list[Plot | None]], int]] = {
    "reward": (reward_records.record()["reward_evaluation"], reward_plots, 4),
    "histogram": (CHECKED, lambda entry: [watch.histogram("h", "First answers", entry)], 1),
    "classes": (
        {"confusion": [[8, 2], [1, 9]]},
        lambda found: [confusion_plot(found, ["a", "a name of many characters"])],
        1,
    ),
    "best of n": (best_of_n_curve([[1.0, 2.0, 4.0, 3.0], [0.0, 1.0, 0.0, 5.0]]), best_of_n_plots, 2),
    "raft": (raft_records.RECORD["rounds"], raft_plots, 2),
    "task": (MODELS, lambda models: [task_plot("multiple_choice", "mmlu", models, "t")], 1),
    "subjects": (MODELS, lambda models: [subject_plot("multiple_choice", "mmlu", models, "s")], 1),
    "pipeline": (
        MEASURES,
        lambda found: [measure_plot(found, "accuracy", share=True, name="p", seeds=2)],
        1,
    ),
    "tokenizer": (
        TOKENIZER,
        lambda metrics: tokenizer_view({"tokenizer": {"figures": metrics}})["plots"],
        1,
    ),
}
"""What run.json holds as written, what draws it, and how many plots it gives."""


def spoiled(content: Any, value: Any) -> Iterator[Any]:
    """``content`` with one number after another replaced by ``value``, or left out where that is None."""
    places: list[tuple[Any, ...]] = []

    def walk(part: Any, path: tuple[Any, ...]) -> None:
        if isinstance(part, dict | list):
            for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
                walk(inner, (*path, key))
        elif isinstance(part, int | float):
            places.append(path)

    walk(content, ())
    for *path, last in places[:: max(1, len(places) // 40)]:
        changed = copy.deepcopy(content)
        part = changed
        for key in path:
            part = part[key]
        if value is None and isinstance(part, dict):
            del part[last]
        else:
            part[last] = value
        yield changed


@pytest.mark.parametrize("name", RECORDS)
def test_plots_of_records(name: str) -> None:
    content, plots, count = RECORDS[name]
    found = [plot for plot in plots(content) if plot is not None]
    assert len(found) == count
    for plot in found:
        check(plot)
        check_drawings(plot)
    assert [plot for plot in plots(type(content)()) if plot is not None] == []
    for value in ("NaN", None, "x"):
        for changed in spoiled(content, value):
            for plot in plots(changed):
                if plot is not None:
                    check(plot)
