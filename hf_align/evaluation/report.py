"""What an evaluation shows: a table a task with every model, differences from the first, drawings.

Reads the run record like the rest of the page, and copes with whatever is missing. Drawings are in
``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.evaluation.plots import subject_plot, task_plot
from hf_align.evaluation.record import EvaluateRecord
from hf_align.evaluation.results import (
    KINDS,
    TaskKind,
    difference_written,
    higher_is_better,
    main_metric,
    metric_names,
    shown_metrics,
    written,
)
from hf_align.reporting.generation_view import side_by_side
from hf_align.reporting.run_view import Fact, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting

Row = Mapping[str, Any]

_NOTES = {
    "perplexity": "Every token is scored once, in windows of {window}. Perplexities can be compared "
    "between models "
    "with the same tokenizer only, bits per byte and per character between all.",
    "multiple_choice": "A choice's log-probability is summed (accuracy), or divided by its tokens or "
    "characters. "
    "A random choice scores {chance}. Solved examples before each question: {shots}.",
    "lm_eval": "Prompts and metrics are those of lm-eval {lm_eval_version}{version}. "
    "Solved examples before each question: {shots}.",
}


def evaluation_view(record: Row) -> dict[str, Any]:
    """``sections`` with tables, notes and drawings, and ``models``."""
    record = EvaluateRecord.of(record)
    found = record.evaluation
    models = [mapping(item) for item in found.models]
    names = [str(model.get("name")) for model in models]
    results = found.results
    return {
        "sections": [
            {"id": kind.replace("_", "-"), "title": KINDS[kind].title, "tasks": _tasks(kind, tasks, names)}
            for kind, tasks in results.items()
            if kind in KINDS
        ],
        "model_columns": ["model", "class", "parameters", "precision", "computed", "time"],
        "models": [_model(model) for model in models],
        "answers": [_answers(mapping(item)) for item in record.evaluation_answers],
    }


def evaluation_facts(record: Row) -> list[Fact]:
    """The headline facts: the main metric of each task, for the first model or for the best of several."""
    record = EvaluateRecord.of(record)
    results = record.evaluation.results
    facts = []
    for kind, tasks in results.items():
        if kind not in KINDS:
            continue
        for task, by_model in mapping(tasks).items():
            metrics_of = {name: mapping(each) for name, each in mapping(by_model).items()}
            key = main_metric(kind, metrics_of)
            label = metric_names(kind, metrics_of).get(key, key)
            known = {
                name: metrics
                for name, metrics in metrics_of.items()
                if formatting.finite(metrics.get(key)) is not None
            }
            if not known:
                continue
            order = max if higher_is_better(kind, metrics_of, key) else min
            best = order(known, key=lambda name: known[name][key])
            value = written(kind, {key: known[best][key]}, key)
            detail = f"{label}, {best}" if len(known) > 1 or kind == "win_rate" else label
            facts.append(Fact(str(task), value, detail))
    if record.wall_time_seconds is not None:
        facts.append(Fact("Wall time", formatting.duration(record.wall_time_seconds)))
    return facts


def evaluation_title(record: Row) -> str:
    """``A``, or ``A and 2 more``: what was measured."""
    models = EvaluateRecord.of(record).evaluation.models
    names = [str(mapping(model).get("name")) for model in models]
    if not names:
        return "evaluation"
    more = f" and {len(names) - 1} more" if len(names) > 2 else f" and {names[1]}" if names[1:] else ""
    return f"{names[0]}{more}"


def _answers(item: Row) -> dict[str, Any]:
    """One prompt with the reference and what each model wrote, as ``parts.generation`` shows it."""
    return side_by_side(item, {"reference": item.get("reference"), **mapping(item.get("answers"))})


def _model(model: Row) -> dict[str, Any]:
    quantized = f", {model['quantization']}" if model.get("quantization") else ""
    return {
        "name": str(model.get("name")),
        "cells": [
            str(model.get("class") or formatting.MISSING),
            formatting.short_count(model.get("parameters")),
            f"{model.get('precision') or formatting.MISSING}{quantized}",
            str(model.get("layout") or formatting.MISSING),
            formatting.duration(model.get("seconds")),
        ],
    }


def _tasks(kind: str, tasks: Any, models: Sequence[str]) -> list[dict[str, Any]]:
    shown = []
    for number, (task, by_model) in enumerate(mapping(tasks).items()):
        metrics = {name: mapping(mapping(by_model).get(name)) for name in models}
        metrics = {name: each for name, each in metrics.items() if each}
        if not metrics:
            continue
        described = KINDS[kind]
        keys = list(shown_metrics(kind, metrics))
        changed = any("difference" in each for each in metrics.values())
        names = metric_names(kind, metrics)
        main = names.get(main_metric(kind, metrics), "")
        plots = [task_plot(kind, str(task), metrics, f"{kind}-{number}")]
        plots.append(subject_plot(kind, str(task), metrics, f"{kind}-{number}-subjects"))
        shown.append(
            {
                "title": str(task),
                "columns": [
                    "model",
                    described.count,
                    *(names[key] for key in keys),
                    *([f"{main}, difference"] if changed else []),
                ],
                "rows": [_row(kind, described, name, each, keys, changed) for name, each in metrics.items()],
                "notes": _notes(kind, next(iter(metrics.values()))),
                "subjects": _subjects(kind, metrics),
                "plots": [plot for plot in plots if plot is not None],
            }
        )
    return shown


def _row(
    kind: str, described: TaskKind, name: str, metrics: Row, keys: Sequence[str], changed: bool
) -> dict[str, Any]:
    cells = [formatting.count(metrics.get(described.count)), *(written(kind, metrics, key) for key in keys)]
    return {"name": name, "cells": [*cells, *([difference_written(kind, metrics)] if changed else [])]}


def _subjects(kind: str, metrics: Mapping[str, Row]) -> dict[str, Any]:
    """A row a subject and a column a model, where a task has more than one subject."""
    by_model = {name: mapping(each.get("subjects")) for name, each in metrics.items()}
    subjects = list(dict.fromkeys(subject for each in by_model.values() for subject in each))
    if len(subjects) < 2:
        return None
    key = main_metric(kind, by_model[next(iter(by_model))])
    rows = []
    for subject in subjects:
        found = [mapping(each.get(subject)) for each in by_model.values()]
        count = formatting.count(found[0].get(KINDS[kind].count))
        rows.append({"name": subject, "cells": [count, *(written(kind, each, key) for each in found)]})
    return {"columns": ["subject", KINDS[kind].count, *by_model], "rows": rows}


def _notes(kind: str, metrics: Row) -> list[str]:
    window = mapping(metrics.get("window"))
    values = {
        "window": f"{formatting.count(window.get('length'))} tokens",
        "chance": formatting.share(metrics.get("chance")),
        "shots": formatting.rate(metrics.get("shots")),
        "version": f", version {metrics['version']} of the task" if metrics.get("version") else "",
        "lm_eval_version": metrics.get("lm_eval_version"),
    }
    notes = [_NOTES[kind].format(**values)] if kind in _NOTES else []
    if formatting.finite(metrics.get("malformed")):
        notes.append(f"{formatting.count(metrics['malformed'])} rows could not be used and were left out.")
    return notes


REPORT = ReportPart(
    view=lambda record, rows, run_dir: evaluation_view(record),
    template="evaluation/report.html.jinja",
    place="instead of curves",
    facts=evaluation_facts,
    title=evaluation_title,
)
