"""The metrics of several runs side by side: headlines, recipe, data, versions and machine.

The best metric of a row is marked where ``comparability`` allows it; otherwise a note says why none is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_align.reporting.compare.comparability import (
    comparable,
    direction,
    final_metric,
    keys_that_change,
    why_unmarked,
)
from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.data_view import first_number, totals
from hf_align.reporting.run_view import listing, mapping, method, model_name, stage_metrics
from hf_align.runs import formatting
from hf_align.runs.metrics import rows_with, series

Row = dict[str, Any]

_FIRST_FINAL = (
    "eval_loss_before",
    "eval_loss",
    "eval_perplexity",
    "eval_token_accuracy",
    "eval_rewards/accuracies_before",
    "eval_rewards/accuracies",
    "eval_rewards/margins",
    "train_loss",
)
_LABELS = {
    "eval_loss_before": "Held-out loss before",
    "eval_loss": "Held-out loss",
    "eval_perplexity": "Held-out perplexity",
    "eval_token_accuracy": "Held-out tokens right",
    "eval_target_tokens": "Held-out target tokens",
    "eval_prompts": "Held-out prompts",
    "eval_rewards/accuracies_before": "Held-out pairs in the right order before",
    "eval_rewards/accuracies": "Held-out pairs in the right order",
    "eval_rewards/margins": "Held-out reward margin",
    "eval_logps/chosen_change": "Held-out change of the chosen answers, nats per token",
    "eval_kl": "Held-out distance from the reference, nats per token",
    "train_loss": "Training loss, mean of the run",
    "steps": "Optimizer steps",
}


def headline_table(runs: Sequence[ComparedRun]) -> tuple[list[Row], list[str]]:
    """(rows of ``label`` and ``cells`` with ``text`` and ``best``, notes). Unknown metrics are dashes."""
    words = [
        ("Stage", [run.record.command or formatting.MISSING for run in runs]),
        ("Status", [run.record.status or "unknown" for run in runs]),
        ("Model", [model_name(run.record) for run in runs]),
        ("Method", [method(run.record) for run in runs]),
        (
            "Precision",
            [run.record.model.precision or formatting.MISSING for run in runs],
        ),
    ]
    rows = [_row(label, texts) for label, texts in words]
    rows += [_metric(runs, key, values) for key, values in _metrics(runs)]
    shown = [row for row in rows if any(cell["text"] != formatting.MISSING for cell in row["cells"])]
    return shown, why_unmarked(runs)


def recipe_table(runs: Sequence[ComparedRun]) -> tuple[list[Row], list[Row]]:
    """Keys with different values: those that all recipes have, and those that only some have.

    Names and places of the runs themselves are left out.
    """
    recipes = [run.recipe for run in runs]
    own = keys_that_change(runs, "place", "resuming")
    keys = [key for key in dict.fromkeys(key for recipe in recipes for key in recipe) if key not in own]
    common, partial = [], []
    for key in keys:
        having = [recipe for recipe in recipes if key in recipe]
        if len(having) < len([recipe for recipe in recipes if recipe]):
            partial.append(_row(key, [_setting(recipes, number, key) for number in range(len(runs))]))
        elif any(recipe[key] != having[0][key] for recipe in having):
            common.append(_row(key, [_setting(recipes, number, key) for number in range(len(runs))]))
    return common, partial


def data_table(runs: Sequence[ComparedRun]) -> tuple[list[Row], list[str]]:
    """The data reports in short, with a note on whether the runs were trained on the same rows."""
    reports = [run.record.data_report for run in runs]
    sums = [totals(report) for report in reports]
    rows = [
        _row("Training rows an epoch", [formatting.count(one["rows"]) for one in sums]),
        _row("Tokens", [formatting.count(one["tokens"]) for one in sums]),
        _row("Target tokens", [formatting.count(one["target_tokens"]) for one in sums]),
        _row("Evaluation rows", [formatting.count(first_number(report, "eval_rows")) for report in reports]),
        _row("Leaked evaluation rows", [_nonzero(first_number(report, "leaked")) for report in reports]),
    ]
    for key, label in (
        ("read", "Rows read"),
        ("malformed", "Malformed rows"),
        ("overlong", "Rows too long"),
        ("dropped", "Rows dropped"),
        ("truncated", "Rows truncated"),
        ("no_target", "Rows without a target"),
        ("unlabelled", "Rows without a class"),
        ("duplicates", "Duplicate rows"),
        ("repeated", "Repeats left out"),
    ):
        counts = [_over_sources(report, key) for report in reports]
        if any(counts):
            rows.append(_row(label, [formatting.count(count) for count in counts]))
    known = [row for row in rows if any(cell["text"] != formatting.MISSING for cell in row["cells"])]
    prints = [report.get("fingerprint") for report in reports]
    notes = []
    if known and all(isinstance(one, str) and one for one in prints):
        same = len(set(map(str, prints))) == 1
        notes.append("All runs had the same rows." if same else "The runs did not have the same rows.")
    return known, notes


def environment_table(runs: Sequence[ComparedRun]) -> list[Row]:
    """Versions and facts of the machine that are not the same for all runs."""
    rows = []
    for facts in ([run.record.machine for run in runs], [run.record.versions for run in runs]):
        for key in dict.fromkeys(key for one in facts for key in one):
            form: Callable[[Any], str] = formatting.size if key == "memory_bytes" else formatting.plain
            texts = [form(one[key]) if key in one else formatting.MISSING for one in facts]
            if len(set(texts)) > 1:
                rows.append(_row(key.replace("_bytes", "").replace("_", " "), texts))
    return rows


def _metrics(runs: Sequence[ComparedRun]) -> list[tuple[str, list[float | None]]]:
    """Every metric by key, with one value a run: the final metrics, and what runs of all stages have."""
    finals = [run.record.final_metrics for run in runs]
    names = list(dict.fromkeys(key for final in finals for key in final))
    # An interrupted run has no final metrics; its last evaluation stands for them.
    logged = [
        key
        for run in runs
        for row in run.log.rows
        for key in row
        if key.startswith("eval_") and key not in names
    ]
    names += list(dict.fromkeys(logged))
    ordered = [key for key in _FIRST_FINAL if key in names]
    # Of what was measured before training only the first lines are shown; each run's own page has the rest.
    ordered += [key for key in names if key not in (*ordered, "steps") and not key.endswith("_before")]
    found: list[tuple[str, list[float | None]]] = [
        (key, [final_metric(run, key) for run in runs]) for key in ordered
    ]
    of_stages = [stage_metrics(run.record) for run in runs]
    for key in dict.fromkeys(key for metrics in of_stages for key in metrics):
        found.append((key, [formatting.number(metrics.get(key)) for metrics in of_stages]))
    found.append(("sample_exact_match", [run.record.sample_exact_match.after for run in runs]))
    found.append(("steps", [_steps(run, final) for run, final in zip(runs, finals, strict=True)]))
    for key in ("wall_time_seconds", "tokens_per_second", "peak_memory_bytes"):
        found.append((key, [_whole_run(run, key) for run in runs]))
    found.append(("trainable_parameters", [run.record.model.trainable_parameters for run in runs]))
    return found


def _steps(run: ComparedRun, final: Mapping[str, Any]) -> float | None:
    logged = [step for row in run.log.rows if (step := formatting.finite(row.get("step"))) is not None]
    return first_number(final, "steps") or (logged[-1] if logged else None)


def _whole_run(run: ComparedRun, key: str) -> float | None:
    """What the record says of the whole run, else what the log lets us say."""
    known: float | None = getattr(run.record, key)
    values = series(rows_with(run.log.rows, key), key).values
    if known is not None or not values:
        return known
    return max(values) if key == "peak_memory_bytes" else sorted(values)[len(values) // 2]


def _metric(runs: Sequence[ComparedRun], key: str, values: Sequence[float | None]) -> Row:
    label = {
        "sample_exact_match": "Samples answered exactly",
        "likelihood_accuracy": "Held-out pairs whose chosen answer is likelier per token",
        "wall_time_seconds": "Wall time",
        "tokens_per_second": "Throughput, tokens/s",
        "peak_memory_bytes": "Peak memory",
        "trainable_parameters": "Trained parameters",
    }.get(key) or _LABELS.get(key, key)
    row = _row(label, [_form(key)(value) for value in values])
    known = [value for value in values if formatting.finite(value) is not None]
    better = direction(key)
    if better and len(set(known)) > 1 and comparable(runs, key):
        best = (min if better < 0 else max)(value for value in known if value is not None)
        for cell, value in zip(row["cells"], values, strict=True):
            cell["best"] = value == best
    return row


def _form(key: str) -> Callable[[Any], str]:
    if key.endswith("bytes"):
        return formatting.size
    if key.endswith("seconds"):
        return formatting.duration
    if key.endswith("per_second"):
        return formatting.rate
    if re.search(r"accurac|exact_match|win_rate", key):
        return formatting.share
    if key == "trainable_parameters":
        return formatting.short_count
    return formatting.count if key == "steps" or key.endswith(("_tokens", "_prompts")) else formatting.loss


def _setting(recipes: Sequence[Mapping[str, Any]], number: int, key: str) -> str:
    if key not in recipes[number]:
        return formatting.MISSING
    value = recipes[number][key]
    values = [recipe.get(key) for recipe in recipes]
    if all(isinstance(entries, list) and all(isinstance(one, dict) for one in entries) for entries in values):
        return _entries(value, [entry for entries in values for entry in listing(entries)])
    return formatting.plain(value)


def _entries(value: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]]) -> str:
    """A list of data sets in short: the paths, and of the rest what is not the same for all."""
    shown = []
    for entry in value:
        first = next(iter(entry), "")
        rest = {
            key: item
            for key, item in entry.items()
            if key != first and any(other.get(key) != item for other in every)
        }
        shown.append(formatting.plain(entry.get(first)) + (f" {formatting.plain(rest)}" if rest else ""))
    return ", ".join(shown) or "[]"


def _row(label: str, texts: Sequence[str]) -> Row:
    return {"label": label, "cells": [{"text": text, "best": False} for text in texts]}


def _nonzero(value: float | None) -> str:
    return formatting.count(value) if value else formatting.MISSING


def _over_sources(report: Mapping[str, Any], key: str) -> float | None:
    counts = [first_number(mapping(source), key) for source in listing(report.get("sources"))]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
