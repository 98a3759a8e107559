"""What a Best-of-N run shows: the curve, what it rests on, and the best and worst answers.

Reads the run record like the rest of the page, and copes with whatever is missing. Drawings are in
``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.best_of_n.plots import best_of_n_plots
from hf_align.best_of_n.raft.report import cost_facts, is_trained, penalty_setting, raft_facts, raft_view
from hf_align.best_of_n.record import BestOfNRecord, Samples
from hf_align.reporting.data_view import first_number
from hf_align.reporting.generation_view import best_and_worst
from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting

Row = Mapping[str, Any]

COLUMNS = ["n", "expected reward", "95 % interval", "KL bound, nats"]
_FILES = {
    "samples.jsonl": "every answer with its rewards",
    "best.jsonl": "the best answers, as fine-tuning data (hf-align sft)",
    "rankings.jsonl": "answers in the order of their rewards (hf-align reward, hf-align dpo)",
    "pairs.jsonl": "the best answer against the worst (hf-align reward, hf-align dpo)",
}


def best_of_n_view(record: Row) -> dict[str, Any]:
    """The same entries as those of ``preference.report``, and ``answers``."""
    record = BestOfNRecord.of(record)
    if is_trained(record):
        return raft_view(record)
    found = record.best_of_n
    curve = [mapping(entry) for entry in found.curve]
    return {
        "title": "Best of n",
        "of_round": None,
        "label": "Expected reward of the best of n",
        "settings": settings(record),
        "columns": COLUMNS,
        "rows": curve_rows(curve),
        "notes": notes(found),
        "plots": best_of_n_plots(curve),
        "displacement": [],
        "answers": [best_and_worst(item) for item in record.best_of_n_samples],
    }


def best_of_n_facts(record: Row) -> list[Fact]:
    """The headline facts, in reading order; what is unknown is left out."""
    if is_trained(record):
        return raft_facts(record)
    found = BestOfNRecord.of(record).best_of_n
    curve = [mapping(entry) for entry in found.curve]
    facts = []
    if curve:
        value = f"{formatting.loss(curve[0].get('reward'))} → {formatting.loss(curve[-1].get('reward'))}"
        facts.append(Fact("Reward", value, f"of one answer, and of the best of {curve[-1].get('n')}"))
        bound = formatting.loss(curve[-1].get("kl_bound"))
        facts.append(Fact("KL divergence", f"at most {bound}", "nats, of the best from the model"))
    for key, label, form, detail in (
        ("stopped", "Stopped by themselves", formatting.share, "of the answers"),
        ("tokens", "Answer length", formatting.rate, "tokens on average"),
        ("distinct", "Distinct answers", formatting.share, "of the answers to a prompt"),
        ("prompts", "Prompts", formatting.count, ""),
    ):
        if first_number(found, key) is not None:
            facts.append(Fact(label, form(found[key]), detail))
    return facts + cost_facts(record)


def settings(record: Row) -> list[tuple[str, str]]:
    """Each reward and each file, as (what, in words)."""
    record = BestOfNRecord.of(record)
    found, recipe = record.best_of_n, record.recipe
    words = []
    for name, part in found.rewards.items():
        mean, best = (formatting.loss(mapping(part).get(key)) for key in ("mean", "best"))
        words.append((f"Reward {name}", f"{mean} on average, {best} for the best answers"))
    words += penalty_setting(recipe)
    for name, count in found.files.items():
        rows = "1 row" if count == 1 else f"{formatting.count(count)} rows"
        words.append((str(name), f"{rows}: {_FILES[name]}" if name in _FILES else rows))
    return words


def curve_rows(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the table: n = 1, 2, 4, … and the largest."""
    largest = max((formatting.finite(entry.get("n")) or 0 for entry in curve), default=0)
    rows = []
    for entry in curve:
        n = formatting.finite(entry.get("n"))
        if n is None or not (n == largest or (n > 0 and int(n) & (int(n) - 1) == 0)):
            continue
        limits = [formatting.loss(limit) for limit in listing(entry.get("interval"))]
        between = " to ".join(limits) if len(limits) == 2 else formatting.MISSING
        cells = [formatting.loss(entry.get("reward")), between, formatting.loss(entry.get("kl_bound"))]
        rows.append({"name": formatting.count(n), "cells": cells})
    return rows


def notes(found: Samples) -> list[str]:
    """What the metrics mean and what they rest on, as sentences."""
    if not found:
        return []
    prompts, samples = formatting.count(found.prompts), found.samples_per_prompt
    said = [
        f"{samples} answers to each of {prompts} prompts. For n below {samples} the metric is the mean over "
        "all choices of n of them, which is what n fresh samples would give on average.",
        "The interval comes from drawing the prompts again 2,000 times: it says what other prompts would "
        "change, not another seed. The KL bound, log n - (n - 1) / n, holds for any reward.",
    ]
    if found.undecided:
        said.append(
            f"All answers to {formatting.share(found.undecided)} of the prompts have the same reward, so "
            "that there is nothing to choose."
        )
    return said


def _method(record: Row) -> str | None:
    recipe = BestOfNRecord.of(record).recipe
    if recipe.get("train"):
        return None
    return f"best of {recipe['num_generations']}" if "num_generations" in recipe else "best of n"


REPORT = ReportPart(
    view=lambda record, rows, run_dir: best_of_n_view(record),
    method=_method,
    template="best_of_n/report.html.jinja",
    place="instead of curves",
    facts=best_of_n_facts,
)
