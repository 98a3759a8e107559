"""What a pipeline shows: the measures of every stage's model side by side, what alignment has changed, the
stages with their time, and answers to the same prompts.

Reads the run record like the rest of the page, and copes with whatever is missing. What is collected from the
stages' folders is made in ``record``, drawings in ``plots``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hf_align.evaluation.results import KINDS, higher_is_better, main_metric, metric_names
from hf_align.pipeline.plots import measure_plot
from hf_align.pipeline.state import PipelineRecord
from hf_align.reporting.generation_view import side_by_side
from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting
from hf_align.runs.columns import aligned

Row = Mapping[str, Any]

NO_CHANGE = "no clear change"


def pipeline_title(record: Row) -> str:
    """The name of the recipe, and what it ends in: ``quickstart: tokenizer to evaluate``."""
    record = PipelineRecord.of(record)
    stages = list(dict.fromkeys(str(mapping(step).get("stage")) for step in record.steps))
    name = PurePath(record.recipe_path or "pipeline").stem
    return f"{name}: {stages[0]} to {stages[-1]}" if len(stages) > 1 else name


def pipeline_facts(record: Row) -> list[Fact]:
    """The headline facts: what became of the reward, how many steps there were, how long they took."""
    record = PipelineRecord.of(record)
    facts = []
    for evaluation in _evaluations(record):
        baseline = str(evaluation.get("baseline"))
        for task, by_model in mapping(mapping(evaluation.get("results")).get("reward")).items():
            changes = {
                str(model): change
                for model, entry in mapping(by_model).items()
                if (change := mapping(mapping(mapping(entry).get("differences")).get("reward")))
            }
            if changes:
                best = max(changes, key=lambda model: changes[model]["mean"])
                detail = f"{best} over {baseline}, {task}"
                facts.append(Fact("Largest gain in reward", _signed(changes[best], 1, ""), detail))
    steps = [mapping(step) for step in record.steps]
    seeds = listing(record.recipe.get("seeds"))
    done = sum(step.get("status") == "completed" for step in steps)
    detail = f"{len(seeds)} seeds" if len(seeds) > 1 else ""
    facts.append(Fact("Steps done", f"{done} of {len(steps)}", detail))
    facts.append(Fact("Time of all steps", formatting.duration(record.wall_time_seconds)))
    known = record.pipeline.steps.values()
    peaks = [formatting.finite(mapping(step).get("peak_memory_bytes")) for step in known]
    found = [peak for peak in peaks if peak is not None]
    if found:
        facts.append(Fact("Peak memory", formatting.size(max(found)), "of any step"))
    return facts


def pipeline_view(record: Row) -> dict[str, Any]:
    """``evaluations`` with tables, drawings and answers, and ``stages``."""
    return {
        "evaluations": [
            _evaluation_view(evaluation, record, number)
            for number, evaluation in enumerate(_evaluations(record))
        ],
        "stage_columns": ["step", "command", "time", "peak memory", "what came out"],
        "stages": [_stage(mapping(step), record) for step in PipelineRecord.of(record).steps],
    }


def _evaluations(record: Row) -> list[dict[str, Any]]:
    found = PipelineRecord.of(record).pipeline.evaluations
    return [mapping(evaluation) for evaluation in found]


def _evaluation_view(evaluation: Row, record: Row, number: int) -> dict[str, Any]:
    models = ordered_models(evaluation, record)
    measures = measures_of(evaluation)
    seeds = listing(evaluation.get("seeds"))
    plots = [
        measure_plot(
            {model: _metric(evaluation, kind, task, model, key) for model in models},
            label,
            share=KINDS[kind].is_share(key),
            name=f"pipeline-{number}-{place}",
            seeds=len(seeds),
        )
        for place, (kind, task, key, label) in enumerate(measures)
    ]
    return {
        "title": str(evaluation.get("stage")),
        "columns": ["measure", *models],
        "rows": [
            {"name": label, "cells": [measured(evaluation, kind, task, model, key) for model in models]}
            for kind, task, key, label in measures
        ],
        "note": _seeds_note(len(seeds)),
        "change_columns": [
            f"change from {evaluation.get('baseline')}",
            "measure",
            "change",
            "over seeds",
            "over prompts",
            "",
        ],
        "changes": changes(evaluation, models),
        "plots": [plot for plot in plots if plot is not None],
        "answers": [_answers(mapping(item), models) for item in listing(evaluation.get("answers"))],
    }


def summary_lines(record: Row) -> list[str]:
    """The measures of every stage and what alignment changed in the reward, as lines for a terminal."""
    lines = []
    for evaluation in _evaluations(record):
        models, measures = ordered_models(evaluation, record), measures_of(evaluation)
        table = [["", *models]]
        for kind, task, key, label in measures:
            table.append([label, *(measured(evaluation, kind, task, model, key) for model in models)])
        lines += aligned(table)
        for row in changes(evaluation, models):
            label, change, seeds, prompts, word = row["cells"]
            if any(kind == "reward" and label == name for kind, *_, name in measures):
                what = f"{row['name']} against {evaluation.get('baseline')}, {label}"
                lines.append(f"{what}: {change} {seeds or prompts} {word}".rstrip())
    return lines


def ordered_models(evaluation: Row, record: Row) -> list[str]:
    """The evaluated models in the order of the stages that made them; others first, as they were given."""
    order = list(dict.fromkeys(str(mapping(step).get("stage")) for step in PipelineRecord.of(record).steps))
    models = [mapping(model) for model in listing(evaluation.get("models"))]
    place = {
        str(model.get("name")): order.index(model["stage"]) if model.get("stage") in order else -1
        for model in models
    }
    return sorted(place, key=lambda name: place[name])


def measures_of(evaluation: Row) -> list[tuple[str, str, str, str]]:
    """(kind, task, key, label) of every measure: the main metric of each task, rewards first, and for written
    answers also the checks."""
    found = []
    results = mapping(evaluation.get("results"))
    for kind in sorted((kind for kind in results if kind in KINDS), key=lambda kind: kind != "reward"):
        for task, by_model in mapping(results[kind]).items():
            metrics = _with_metrics(by_model)
            names = metric_names(kind, metrics)
            wanted = [main_metric(kind, metrics)]
            if kind == "generation":
                wanted += ["checks_passed", "stopped"]
            shown = [key for key in dict.fromkeys(wanted) if any(key in each for each in metrics.values())]
            found += [(kind, str(task), key, f"{task}: {names[key]}") for key in shown]
    return found


def _with_metrics(by_model: Any) -> dict[str, dict[str, Any]]:
    """The metrics of each model, with what the task calls them where it says so, as evaluations have them."""
    return {
        str(model): mapping(mapping(entry).get("figures"))
        | {"metrics": mapping(mapping(entry).get("metrics"))}
        for model, entry in mapping(by_model).items()
    }


def _metric(evaluation: Row, kind: str, task: str, model: str, key: str) -> dict[str, Any]:
    return mapping(mapping(_entry(evaluation, kind, task, model).get("figures")).get(key))


def _entry(evaluation: Row, kind: str, task: str, model: str) -> dict[str, Any]:
    return mapping(mapping(mapping(mapping(evaluation.get("results")).get(kind)).get(task)).get(model))


def measured(evaluation: Row, kind: str, task: str, model: str, key: str) -> str:
    """A metric as the mean over seeds, with its interval over seeds: ``41.2 % [33.0, 49.9]``."""
    metric = _metric(evaluation, kind, task, model, key)
    if formatting.finite(metric.get("mean")) is None:
        return formatting.MISSING
    scale, unit, form = (100, " %", ".1f") if KINDS[kind].is_share(key) else (1, "", ".3g")
    text = f"{scale * metric['mean']:{form}}"
    limits = listing(metric.get("interval"))
    return f"{text}{unit}" + (
        f" [{', '.join(f'{scale * limit:{form}}' for limit in limits)}]" if limits else ""
    )


def changes(evaluation: Row, models: Sequence[str]) -> list[dict[str, Any]]:
    """What every other model changed from the first: a row for each measure with a difference."""
    rows = []
    for kind, task, key, label in measures_of(evaluation):
        by_model = mapping(mapping(evaluation.get("results")).get(kind)).get(task)
        higher = higher_is_better(kind, _with_metrics(by_model), key)
        scale, unit = (100, " points") if KINDS[kind].is_share(key) else (1, "")
        for model in models:
            difference = mapping(mapping(_entry(evaluation, kind, task, model).get("differences")).get(key))
            if formatting.finite(difference.get("mean")) is None:
                continue
            cells = [
                label,
                f"{scale * difference['mean']:+.3g}{unit}",
                _limits(difference.get("interval"), scale),
                _limits(difference.get("over_prompts"), scale),
                verdict(difference, higher=higher),
            ]
            rows.append({"name": model, "cells": cells})
    return rows


def verdict(difference: Row, *, higher: bool) -> str:
    """``better``, ``worse`` or that nothing is clear: by the interval over seeds, or the one over prompts
    where there is one seed."""
    limits = [float(limit) for limit in listing(difference.get("interval") or difference.get("over_prompts"))]
    if len(limits) != 2:
        return ""
    if limits[0] > 0 or limits[1] < 0:
        return "better" if (limits[0] > 0) == higher else "worse"
    return NO_CHANGE


def _signed(difference: Row, scale: float, unit: str) -> str:
    limits = _limits(difference.get("interval") or difference.get("over_prompts"), scale)
    return f"{scale * difference['mean']:+.3g}{unit}" + (f" {limits}" if limits else "")


def _limits(limits: Any, scale: float) -> str:
    known = listing(limits)
    return f"[{', '.join(f'{scale * float(limit):+.3g}' for limit in known)}]" if known else ""


def _seeds_note(seeds: int) -> str:
    if seeds < 2:
        return (
            "One seed: 95 % intervals say what other prompts would change; what another training run would, "
            "they do not."
        )
    return (
        f"Means over {seeds} seeds, with 95 % intervals from Student's t distribution: what other training "
        "runs would change. Those of shares end at 0 and 100 %, beyond which no share can lie. A model "
        "without an interval is the same for every seed. Intervals over prompts, from drawing the prompts "
        "again, say what other prompts would change."
    )


def _stage(step: Row, record: Row) -> dict[str, Any]:
    name = str(step.get("name"))
    known = mapping(PipelineRecord.of(record).pipeline.steps.get(name))
    found = [f"{label}: {value}" for label, value, *_ in listing(known.get("facts"))]
    status = "" if step.get("status") == "completed" else str(step.get("status") or "waiting")
    return {
        "name": name,
        "link": os.path.basename(str(step.get("output_dir"))) + "/report.html" if known.get("facts") else "",
        "cells": [
            str(step.get("command")),
            formatting.duration(step.get("seconds")),
            formatting.size(known.get("peak_memory_bytes")),
        ],
        "result": status or "; ".join(found),
    }


def _answers(item: Row, models: Sequence[str]) -> dict[str, Any]:
    """One prompt with the reference and what the model of each stage wrote."""
    given = mapping(item.get("answers"))
    written = {model: given[model] for model in models if model in given}
    return side_by_side(item, {"reference": item.get("reference"), **written})


REPORT = ReportPart(
    view=lambda record, rows, run_dir: pipeline_view(record),
    template="pipeline/report.html.jinja",
    place="instead of curves",
    facts=pipeline_facts,
    title=pipeline_title,
)
