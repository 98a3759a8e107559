"""``comparison.html``: several runs over each other in one self-contained page.

Like the page of one run it loads nothing, runs no script, escapes everything, and is made from whatever the
run folders hold so far. The folders themselves are only read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_align.reporting.compare.plots import comparison_plots, legend
from hf_align.reporting.compare.runs import ComparedRun, read_runs
from hf_align.reporting.compare.samples import shared_generations
from hf_align.reporting.compare.tables import data_table, environment_table, headline_table, recipe_table
from hf_align.reporting.html import SHOWN_GENERATIONS, run_notices
from hf_align.reporting.page import render_template
from hf_align.runs.record import write_atomic

COMPARISON_FILE = "comparison.html"


def write_comparison(
    run_dirs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> Path:
    """Compare the runs in ``run_dirs`` and return the path of the page.

    It goes to ``output`` or, without one, beside the first run folder. Raises UserError if one of them holds
    no readable ``run.json`` or is given twice.
    """
    runs = read_runs(run_dirs)
    path = Path(output) if output is not None else Path(run_dirs[0]).resolve().parent / COMPARISON_FILE
    page = render_template("comparison.html.jinja", **comparison_view(runs))
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def comparison_view(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """What the template shows, as short strings and lists of them."""
    headlines, headline_notes = headline_table(runs)
    data, data_notes = data_table(runs)
    common, partial = recipe_table(runs)
    plots, minor_plots = comparison_plots(runs)
    generations, generations_note = shared_generations(runs)
    return {
        "runs": [
            {**look, "folder": run.folder, "status": run.record.status or "status unknown"}
            for look, run in zip(legend(runs), runs, strict=True)
        ],
        "notices": [f"{run.mark}: {notice}" for run in runs for notice in run_notices(run.record, run.log)],
        "headlines": headlines,
        "headline_notes": headline_notes,
        "plots": plots,
        "minor_plots": minor_plots,
        "recipe": common,
        "recipe_partial": partial,
        "data": data,
        "data_notes": data_notes,
        "generations": generations,
        "generations_note": generations_note,
        "shown_generations": SHOWN_GENERATIONS,
        "environment": environment_table(runs),
    }
