"""Parts of a run's report in the output of a notebook cell: curves, tables, answers, marked tokens.

The parts are those of ``report.html``, made by the same code from the same files, with the page's style
confined to the cell. What :func:`show_run` and its kin return draws itself as the last value of a cell;
nothing here imports IPython.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError, did_you_mean
from hf_align.reporting.html import report_view
from hf_align.reporting.mask_view import mask_sample, sample_view
from hf_align.reporting.page import TEMPLATES, render_template
from hf_align.runs.metrics import METRICS_FILE, read_metrics
from hf_align.runs.record import read_run
from hf_align.stages import STAGES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.reporting.mask_view import Row

PARTS: Mapping[str, str] = {
    "facts": "facts",
    "loss": "plots",
    "curves": "plots",
    "generations": "generations",
    "data": "data",
    "mask": "samples",
    **{stage.part: stage.part for stage in STAGES.values() if stage.part},
}
"""What can be shown, and which entry of the report's view holds it. ``loss``: the first of the curves. The
section of a stage is shown by its name in ``hf_align.stages``."""

CLASS = "hf-align"

SHOWN = 3
"""Samples, answers and mistakes that a cell shows; the page has all of them."""
SHOWN_PLOTS = 6
"""Curves of several runs over each other, likewise."""


@dataclass(frozen=True, repr=False)
class Shown:
    """``html``: what a notebook draws; ``summary``: what stands in its place in a terminal."""

    html: str
    summary: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.summary


def show_run(run_dir: str | os.PathLike[str], *parts: str) -> Shown:
    """Parts of the report of one run, in the order given; without any, its facts and its loss.

    ``parts``: names of :data:`PARTS`. Raises UserError for a folder without a readable ``run.json``, for an
    unknown part, and for one that this run's report does not have.
    """
    wanted = parts or ("facts", "loss")
    folder = Path(run_dir)
    view = report_view(read_run(folder), read_metrics(folder / METRICS_FILE), str(folder))
    for part in wanted:
        if part not in PARTS:
            raise UserError(
                f"show_run: there is no part {part!r}; found in a report: {', '.join(PARTS)}."
                f"{did_you_mean(part, PARTS)}"
            )
        if not view.get(PARTS[part]):
            known = ", ".join(name for name, entry in PARTS.items() if view.get(entry))
            raise UserError(f"show_run: the report of {folder} has no {part}; it has {known}.")
    return _shown(f"{folder}: {', '.join(wanted)}", wanted=wanted, **view)


def show_runs(run_dirs: Sequence[str | os.PathLike[str]]) -> Shown:
    """Headline metrics of several runs side by side, and their curves over each other.

    Raises UserError for a folder without a readable ``run.json`` and for one that is given twice.
    """
    from hf_align.reporting.compare.page import comparison_view
    from hf_align.reporting.compare.runs import read_runs

    view = comparison_view(read_runs(run_dirs))
    view["plots"] = view["plots"][:SHOWN_PLOTS]
    return _shown(" and ".join(map(str, run_dirs)), wanted=("compared",), stage=None, **view)


def show_rows(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Shown:
    """The tokens of rows as they are trained, those that count in the loss marked."""
    samples = [sample_view(mask_sample(row, tokenizer)) for row in rows]
    return _shown(f"{len(samples)} rows", wanted=("mask",), samples=samples, stage=None)


def _shown(summary: str, **view: Any) -> Shown:
    html = render_template("inline.html.jinja", style=confined_style(), box=CLASS, shown=SHOWN, **view)
    return Shown(html, summary)


def confined_style() -> str:
    """The style sheets of the pages, for elements inside ``CLASS`` only (CSS nesting)."""
    sheets = "\n".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css.jinja", "comparison.css.jinja")
    )
    # The page's root and body are the cell's box here.
    own = sheets.replace(":root {", "& {").replace("body {", "& {")
    return f".{CLASS} {{\n{own}\n{_CELL}\n}}"


_CELL = f"""& {{ margin: 0; max-width: 62rem; padding: 0.4rem 1rem 1rem; }}
&.{CLASS} :is(dl, dt, dd) {{ float: none; width: auto; margin-bottom: 0; font-weight: 400; }}
&.{CLASS} :is(th, td) {{ white-space: normal; max-width: none; }}
& tr {{ background: none !important; }}"""
"""What notebooks themselves say of lists and tables is taken back, and the page's margins."""
