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
    Kind,
    difference_written,
    figure_names,
    higher_is_better,
    main_figure,
    shown_figures,
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
    """The headline facts: the main figure of each task, for the first model or for the best of several."""
    record = EvaluateRecord.of(record)
    results = record.evaluation.results
    facts = []
    for kind, tasks in results.items():
        if kind not in KINDS:
            continue
        for task, by_model in mapping(tasks).items():
            figures_of = {name: mapping(each) for name, each in mapping(by_model).items()}
            key = main_figure(kind, figures_of)
            label = figure_names(kind, figures_of).get(key, key)
            known = {
                name: figures
                for name, figures in figures_of.items()
                if formatting.finite(figures.get(key)) is not None
            }
            if not known:
                continue
            order = max if higher_is_better(kind, figures_of, key) else min
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
        figures = {name: mapping(mapping(by_model).get(name)) for name in models}
        figures = {name: each for name, each in figures.items() if each}
        if not figures:
            continue
        described = KINDS[kind]
        keys = list(shown_figures(kind, figures))
        changed = any("difference" in each for each in figures.values())
        names = figure_names(kind, figures)
        main = names.get(main_figure(kind, figures), "")
        plots = [task_plot(kind, str(task), figures, f"{kind}-{number}")]
        plots.append(subject_plot(kind, str(task), figures, f"{kind}-{number}-subjects"))
        shown.append(
            {
                "title": str(task),
                "columns": [
                    "model",
                    described.count,
                    *(names[key] for key in keys),
                    *([f"{main}, difference"] if changed else []),
                ],
                "rows": [_row(kind, described, name, each, keys, changed) for name, each in figures.items()],
                "notes": _notes(kind, next(iter(figures.values()))),
                "subjects": _subjects(kind, figures),
                "plots": [plot for plot in plots if plot is not None],
            }
        )
    return shown


def _row(
    kind: str, described: Kind, name: str, figures: Row, keys: Sequence[str], changed: bool
) -> dict[str, Any]:
    cells = [formatting.count(figures.get(described.count)), *(written(kind, figures, key) for key in keys)]
    return {"name": name, "cells": [*cells, *([difference_written(kind, figures)] if changed else [])]}


def _subjects(kind: str, figures: Mapping[str, Row]) -> dict[str, Any]:
    """A row a subject and a column a model, where a task has more than one subject."""
    by_model = {name: mapping(each.get("subjects")) for name, each in figures.items()}
    subjects = list(dict.fromkeys(subject for each in by_model.values() for subject in each))
    if len(subjects) < 2:
        return None
    key = main_figure(kind, by_model[next(iter(by_model))])
    rows = []
    for subject in subjects:
        found = [mapping(each.get(subject)) for each in by_model.values()]
        count = formatting.count(found[0].get(KINDS[kind].count))
        rows.append({"name": subject, "cells": [count, *(written(kind, each, key) for each in found)]})
    return {"columns": ["subject", KINDS[kind].count, *by_model], "rows": rows}


def _notes(kind: str, figures: Row) -> list[str]:
    window = mapping(figures.get("window"))
    values = {
        "window": f"{formatting.count(window.get('length'))} tokens",
        "chance": formatting.share(figures.get("chance")),
        "shots": formatting.rate(figures.get("shots")),
        "version": f", version {figures['version']} of the task" if figures.get("version") else "",
        "lm_eval_version": figures.get("lm_eval_version"),
    }
    notes = [_NOTES[kind].format(**values)] if kind in _NOTES else []
    if formatting.finite(figures.get("malformed")):
        notes.append(f"{formatting.count(figures['malformed'])} rows could not be used and were left out.")
    return notes


REPORT = ReportPart(
    view=lambda record, rows, run_dir: evaluation_view(record),
    template="evaluation/report.html.jinja",
    place="instead of curves",
    facts=evaluation_facts,
    title=evaluation_title,
)
