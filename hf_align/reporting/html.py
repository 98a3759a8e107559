"""``report.html``: one self-contained page made from the files of a run folder.

The page loads nothing: style and drawings are inline, there is no script, and its content security policy
forbids both. Everything that comes from data, models or recipes is escaped. The page is written from
whatever the folder holds so far, so it also describes a run that is still going or was cut off.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.reporting.data_view import data_view
from hf_align.reporting.drawing import STEPS
from hf_align.reporting.generation_view import generation_view
from hf_align.reporting.mask_view import sample_view
from hf_align.reporting.page import render_template
from hf_align.reporting.plots import run_plots
from hf_align.reporting.run_view import Fact, facts, method, model_name
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting
from hf_align.runs.metrics import METRICS_FILE, MetricsLog, read_metrics, series, training_rows
from hf_align.runs.record import read_run, redact, write_atomic
from hf_align.runs.schema import Record
from hf_align.stages import STAGES, part_of

if TYPE_CHECKING:
    pass

REPORT_FILE = "report.html"
SHOWN_GENERATIONS = 6
"""Generations that are open on the page; the rest are folded."""


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """(Re)write ``report.html`` in ``run_dir`` and return its path.

    Raises UserError if the folder holds no readable ``run.json``.
    """
    folder = Path(run_dir)
    record = read_run(folder)
    log = read_metrics(folder / METRICS_FILE)
    path = folder / REPORT_FILE
    page = render_template("report.html.jinja", **report_view(record, log, str(folder)))
    # A lone surrogate from a broken prompt has no UTF-8 form; the page shows a question mark for it.
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def report_view(record: Mapping[str, Any], log: MetricsLog, run_dir: str) -> dict[str, Any]:
    """What the template shows, as short strings and lists of them."""
    record = Record.of(record)
    recipe: dict[str, Any] = redact(record.recipe)
    overrides = record.overrides
    name = recipe.get("run_name")
    part = _part(record)
    stage = None if part is None else {**vars(part), "view": part.view(record, log.rows, run_dir)}
    own = stage["view"] if stage is not None else {}
    return {
        "command": record.command or "run",
        "title": str(name) if name else _title(record),
        "status": record.status or "status unknown",
        "meta": _meta(record, bool(name)),
        "notices": run_notices(record, log),
        "facts": headline_facts(record, log.rows),
        "plots": run_plots(log.rows, STEPS if part is None else part.x),
        "stage": stage,
        **({str(STAGES[record.command].part): own} if stage is not None else {}),
        "generations": [generation_view(item) for item in record.generations],
        "shown_generations": SHOWN_GENERATIONS,
        "data": data_view(record.data_report),
        "samples": [sample_view(item) for item in record.mask_samples],
        "samples_title": own.get("samples_title", "Trained tokens"),
        "samples_note": own.get("samples_note"),
        "recipe": _settings(recipe, overrides),
        "recipe_path": record.recipe_path,
        "recipe_yaml": _yaml(recipe),
        "overridden": bool(overrides),
        "environment": _versions_and_machine(record),
        "run_dir": run_dir,
    }


def headline_facts(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The headline facts of a run of any command; ``rows``: of its metrics."""
    record = Record.of(record)
    part = _part(record)
    if part is not None and part.facts is not None:
        return part.facts(record)
    first = part.first_facts(record) if part is not None and part.first_facts is not None else []
    return [*first, *facts(record, rows)]


def _part(record: Record) -> ReportPart | None:
    """What the stage of this run adds to the page."""
    part: ReportPart | None = part_of(record.command, "report")
    return part


def _title(record: Record) -> str:
    part = _part(record)
    if part is not None and part.title is not None:
        return part.title(record)
    return f"{model_name(record)}, {method(record)}"


def _meta(record: Record, named: bool) -> list[str]:
    started = record.started
    with contextlib.suppress(ValueError):  # what is not an ISO date is shown as it was written
        moment = datetime.fromisoformat(started)
        started = f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
    items = [f"started {started}"] if started else []
    if named:
        items.append(f"{model_name(record)}, {method(record)}")
    if record.recipe_path:
        items.append(record.recipe_path)
    return items


def run_notices(record: Mapping[str, Any], log: MetricsLog) -> list[str]:
    """What a reader must know before trusting the numbers."""
    record = Record.of(record)
    notices = []
    last = training_rows(log.rows)[-1:]
    reached = f" The last logged step is {formatting.count(last[0].get('step'))}." if last else ""
    if record.status == "running":
        notices.append(
            f"This run had not ended when the page was written; its numbers are provisional.{reached}"
        )
    elif record.status == "interrupted":
        notices.append(f"This run was interrupted; its numbers cover the part that was done.{reached}")
    if record.message:
        notices.append(f"{record.message[:1].upper()}{record.message[1:]}.")
    bad = series(training_rows(log.rows), "loss").bad_steps
    if bad:
        notices.append(
            f"The training loss was not a finite number at {len(bad)} logged "
            f"{'step' if len(bad) == 1 else 'steps'}, first at step {formatting.count(bad[0])}."
        )
    if log.unreadable_lines:
        lines = "line" if log.unreadable_lines == 1 else "lines"
        notices.append(
            f"{log.unreadable_lines} {lines} of {METRICS_FILE} could not be read and were left out."
        )
    return notices


def _settings(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": formatting.plain(value), "changed": key in overrides}
        for key, value in recipe.items()
    ]


def _yaml(recipe: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=100) if recipe else ""


def _versions_and_machine(record: Record) -> list[tuple[str, str]]:
    shown = []
    for key, value in record.machine.items():
        if key == "memory_bytes":
            shown.append(("memory", formatting.size(value)))
        elif key == "accelerator":
            shown.append(("accelerator", str(value or "none")))
        elif value is not None:
            shown.append((str(key).replace("_", " "), str(value)))
    untested = record.untested_versions
    for key, value in record.versions.items():
        shown.append((str(key), f"{value} ({untested[key]} than tested)" if key in untested else str(value)))
    return shown
