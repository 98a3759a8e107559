"""``report.html``: one self-contained page made from the files of a run folder.

The page loads nothing: style and drawings are inline, there is no script, and its content security policy
forbids both. Everything that comes from data, models or recipes is escaped. The page is written from
whatever the folder holds so far, so it also describes a run that is still going or was cut off.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.reporting import formatting
from hf_align.reporting.best_of_n_view import best_of_n_facts, best_of_n_view
from hf_align.reporting.classification_view import classification_view
from hf_align.reporting.data_view import data_view
from hf_align.reporting.evaluation_view import evaluation_facts, evaluation_title, evaluation_view
from hf_align.reporting.generation_view import generation_view
from hf_align.reporting.mask_view import sample_view
from hf_align.reporting.metrics import METRICS_FILE, MetricsLog, read_metrics, series, training_rows
from hf_align.reporting.pipeline_view import pipeline_facts, pipeline_title, pipeline_view
from hf_align.reporting.plots import run_plots
from hf_align.reporting.ppo_plots import ROLLOUTS
from hf_align.reporting.ppo_view import SAMPLES_FILE, ppo_facts, ppo_view
from hf_align.reporting.preference_view import preference_view
from hf_align.reporting.pretraining_view import pretraining_view
from hf_align.reporting.reward_view import reward_view
from hf_align.reporting.run_record import read_run, redact, write_atomic
from hf_align.reporting.run_view import Fact, facts, listing, mapping, method, model_name
from hf_align.reporting.tokenizer_view import tokenizer_facts, tokenizer_title, tokenizer_view

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"
SHOWN_GENERATIONS = 6
"""Generations that are open on the page; the rest are folded."""

TEMPLATES = Path(__file__).parent / "templates"


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


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(name: str, **values: Any) -> str:
    """The template ``name`` of this package, filled in; every value that is not ``Markup`` is escaped."""
    return _environment().get_template(name).render(**values)


def report_view(record: Mapping[str, Any], log: MetricsLog, run_dir: str) -> dict[str, Any]:
    """What the template shows, as short strings and lists of them."""
    recipe = mapping(redact(record.get("recipe")))
    overrides = mapping(record.get("overrides"))
    command = str(record.get("command") or "run")
    name = recipe.get("run_name")
    return {
        "command": command,
        "title": str(name) if name else _title(record),
        "status": str(record.get("status") or "status unknown"),
        "meta": _meta(record, bool(name)),
        "notices": run_notices(record, log),
        "facts": headline_facts(record, log.rows),
        "plots": run_plots(log.rows, ROLLOUTS) if command == "ppo" else run_plots(log.rows),
        "ppo": ppo_view(record, log.rows, read_metrics(Path(run_dir) / SAMPLES_FILE).rows),
        "preferences": preference_view(record, log.rows),
        "reward": reward_view(record, log.rows),
        "pretraining": pretraining_view(record),
        "classification": classification_view(record),
        "best_of_n": best_of_n_view(record),
        "tokenizer": tokenizer_view(record),
        "evaluation": evaluation_view(record),
        "pipeline": pipeline_view(record),
        "generations": [generation_view(item) for item in listing(record.get("generations"))],
        "shown_generations": SHOWN_GENERATIONS,
        "data": data_view(record.get("data_report")),
        "samples": [sample_view(item) for item in listing(record.get("mask_samples"))],
        "recipe": _settings(recipe, overrides),
        "recipe_path": str(record.get("recipe_path") or ""),
        "recipe_yaml": _yaml(recipe),
        "overridden": bool(overrides),
        "environment": _versions_and_machine(record),
        "run_dir": run_dir,
    }


def headline_facts(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The headline facts of a run of any command; ``rows``: of its metrics."""
    own = {
        "best-of-n": best_of_n_facts,
        "tokenizer": tokenizer_facts,
        "evaluate": evaluation_facts,
        "pipeline": pipeline_facts,
    }.get(str(record.get("command")))
    return own(record) if own is not None else [*ppo_facts(record), *facts(record, rows)]


def _title(record: Mapping[str, Any]) -> str:
    if record.get("command") == "pipeline":
        return pipeline_title(record)
    if record.get("command") == "tokenizer":
        return tokenizer_title(record)
    if record.get("command") == "evaluate":
        return evaluation_title(record)
    return f"{model_name(record)}, {method(record)}"


def _meta(record: Mapping[str, Any], named: bool) -> list[str]:
    started = str(record.get("started") or "")
    with contextlib.suppress(ValueError):  # what is not an ISO date is shown as it was written
        moment = datetime.fromisoformat(started)
        started = f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
    items = [f"started {started}"] if started else []
    if named:
        items.append(f"{model_name(record)}, {method(record)}")
    if record.get("recipe_path"):
        items.append(str(record["recipe_path"]))
    return items


def run_notices(record: Mapping[str, Any], log: MetricsLog) -> list[str]:
    """What a reader must know before trusting the numbers."""
    notices = []
    last = training_rows(log.rows)[-1:]
    reached = f" The last logged step is {formatting.count(last[0].get('step'))}." if last else ""
    if record.get("status") == "running":
        notices.append(
            f"This run had not ended when the page was written; its numbers are provisional.{reached}"
        )
    elif record.get("status") == "interrupted":
        notices.append(f"This run was interrupted; its numbers cover the part that was done.{reached}")
    if record.get("message"):
        said = str(record["message"])
        notices.append(f"{said[:1].upper()}{said[1:]}.")
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


def _versions_and_machine(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = mapping(record.get("machine"))
    shown = []
    for key, value in machine.items():
        if key == "memory_bytes":
            shown.append(("memory", formatting.size(value)))
        elif key == "accelerator":
            shown.append(("accelerator", str(value or "none")))
        elif value is not None:
            shown.append((str(key).replace("_", " "), str(value)))
    versions = [(str(key), str(value)) for key, value in mapping(record.get("versions")).items()]
    return shown + versions
