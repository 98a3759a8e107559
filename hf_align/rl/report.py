"""The part of the report that an RL run adds: rewards, KL to the reference, groups, answers over time.

Reads the run record, the metrics and the sample answers, and copes with whatever is missing. The curves are
in ``rl.plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.reporting.stage_parts import CardPart, ReportPart, Sources
from hf_align.rl.plots import EVALUATED, ROLLOUTS, rl_plots
from hf_align.rl.record import PpoRecord
from hf_align.rl.watch.report import check_view, watch_facts, watch_view
from hf_align.runs import formatting
from hf_align.runs.metrics import read_metrics, rows_with, training_rows

Row = Mapping[str, Any]

ROLLOUT_SAMPLES_FILE = "samples.jsonl"
"""A line a rollout, with its best, its middling and its worst answer."""

SHOWN_ROLLOUTS = 5

_NAMES = {
    "ppo": "PPO",
    "grpo": "GRPO",
    "rloo": "RLOO",
    "reinforce": "REINFORCE",
    "reinforce_pp": "REINFORCE++",
}
_LONG_NAMES = {
    "ppo": "proximal policy optimisation",
    "grpo": "group-relative policy optimisation (GRPO)",
    "rloo": "REINFORCE leave-one-out (RLOO)",
    "reinforce": "REINFORCE",
    "reinforce_pp": "REINFORCE++",
}

# (key of a held-out metric, what it is, form of its values).
_METRICS = (
    ("reward/total", "Reward", formatting.loss),
    ("kl", "KL to the reference, nats per answer", formatting.loss),
    ("response_length", "Length in tokens", formatting.loss),
    ("eos_rate", "EOS rate: answers that end by themselves", formatting.share),
    ("repetition", "Repeated 4-grams", formatting.share),
)


def rl_view(record: Row, rows: Sequence[Row], samples: Sequence[Row]) -> dict[str, Any]:
    """``name`` of the section, ``settings``, held-out metrics as ``columns`` and ``rows``, ``notes``,
    ``plots``, and ``rollouts``: answers over time. ``samples``: the lines of ``ROLLOUT_SAMPLES_FILE``."""
    return {
        "name": method(record),
        "label": "Held-out answers before and after training",
        "settings": settings(record),
        "columns": ["held-out answers", "before", "after"],
        "rows": held_out(record),
        "notes": notes(record, rows),
        "plots": rl_plots(rows),
        "displacement": [],
        "rollouts": rollouts(samples),
        "check": check_view(record),
        "watch": watch_view(record, rows),
    }


def rl_facts(record: Row) -> list[Fact]:
    """The headlines of a run; none for another stage."""
    final = PpoRecord.of(record).final_metrics
    found = watch_facts(record)
    before, after = (formatting.finite(final.get(f"{EVALUATED}{end}")) for end in ("_before", ""))
    if after is not None:
        value = formatting.loss(after)
        if before is not None:
            value = f"{formatting.loss(before)} → {value}"
        answers = formatting.count(final.get("eval_answers"))
        found.append(Fact("Held-out reward", value, f"of {answers} sampled answers"))
    elif formatting.finite(final.get("reward/total")) is not None:
        found.append(Fact("Reward", formatting.loss(final["reward/total"]), "in the last rollout"))
    key = "eval_kl" if after is not None else "kl"
    if formatting.finite(final.get(key)) is not None:
        found.append(Fact("KL from the reference", f"{formatting.loss(final[key])} nats", "per answer"))
    if formatting.finite(final.get("episodes")) is not None:
        rounds = formatting.count(final.get("rollouts"))
        found.append(Fact("Episodes", formatting.count(final["episodes"]), f"in {rounds} rollouts"))
    return found


def _algorithm(record: Row) -> str:
    recipe = PpoRecord.of(record).recipe
    found = str(recipe.get("algorithm", "ppo"))
    return found if found in _NAMES else "ppo"


def method(record: Row) -> str:
    """The name of the algorithm, and what its key ``loss_type`` makes of it."""
    name, recipe = _algorithm(record), PpoRecord.of(record).recipe
    if name != "grpo":
        return _NAMES[name]
    level = ", ratios of whole answers" if recipe.get("importance_sampling_level") == "sequence" else ""
    return f"{_NAMES[name]} (loss_type {recipe.get('loss_type')}{level})"


def settings(record: Row) -> list[tuple[str, str]]:
    """Rewards, reference and the check of the start, as (what, in words)."""
    record = PpoRecord.of(record)
    recipe = record.recipe
    names = [str(name) for key in ("reward_model", "reward_functions") for name in listing(recipe.get(key))]
    weights = listing(recipe.get("reward_weights")) or [1.0] * len(names)
    rewards = " + ".join(
        name if weight == 1 else f"{formatting.plain(weight)} × {name}"
        for name, weight in zip(names, weights, strict=False)
    )
    reference = record.reference
    base = " of ".join(part for part in (reference.kind, reference.model) if part)
    check = record.start_check.kl_at_start
    start = ""
    if check:
        start = (
            f"{formatting.loss(check.get('mean'))} nats per token before the first update; 0 by theory, at "
            f"most {formatting.plain(check.get('allowed'))} by rounding"
        )
    said = [("Reward", rewards), ("Reference", base), ("KL to the reference at the start", start)]
    return [(name, text) for name, text in said if text]


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells`` (before, after) with what is known."""
    final = PpoRecord.of(record).final_metrics
    parts = [
        (key.removeprefix("eval_"), f"Reward {key.removeprefix('eval_reward/')}", formatting.loss)
        for key in final
        if key.startswith("eval_reward/") and not key.endswith("_before") and key != EVALUATED
    ]
    watched = [
        (key.removeprefix("eval_"), f"Watch reward {key.removeprefix('eval_watch/')}", formatting.loss)
        for key in final
        if key.startswith("eval_watch/") and not key.endswith("_before")
    ]
    metrics = [_METRICS[0], *(parts if len(parts) > 1 else []), *watched, *_METRICS[1:]]
    shown = []
    for key, name, form in metrics:
        values = [formatting.finite(final.get(f"eval_{key}{end}")) for end in ("_before", "")]
        if any(value is not None for value in values):
            cells = [formatting.MISSING if value is None else form(value) for value in values]
            shown.append({"name": name, "cells": cells})
    return shown


def notes(record: Row, rows: Sequence[Row]) -> list[str]:
    """What the metrics mean, as sentences."""
    said = []
    final = PpoRecord.of(record).final_metrics
    if formatting.finite(final.get("eval_answers")) is not None:
        said.append(
            f"{formatting.count(final['eval_answers'])} held-out prompts, one sampled answer to each, with "
            "the sampling of training and the same random numbers before and after."
        )
    said += group_notes(record, rows)
    stopped = sum(1 for row in training_rows(rows) if row.get("stopped_by_kl"))
    if stopped:
        said.append(f"{stopped} of {len(training_rows(rows))} updates were ended early by kl_stop.")
    return said


def group_notes(record: Row, rows: Sequence[Row]) -> list[str]:
    """What the groups of answers had to teach, as sentences; none for an algorithm without groups."""
    known = rows_with(training_rows(rows), "frac_reward_zero_std")
    if not known:
        return []
    shares = [formatting.finite(row["frac_reward_zero_std"]) or 0.0 for row in known]
    size = formatting.count(PpoRecord.of(record).recipe.get("num_generations"))
    said = [
        f"{formatting.share(sum(shares) / len(shares))} of the groups of {size} answers had equal scores "
        f"throughout and no signal: {formatting.share(shares[0])} in the first rollout, "
        f"{formatting.share(shares[-1])} in the last."
    ]
    drawn = sum(formatting.finite(row.get("resampled_groups")) or 0.0 for row in known)
    if drawn:
        left = sum(formatting.finite(row.get("equal_groups")) or 0.0 for row in known)
        said.append(
            f"Groups were drawn again {formatting.count(int(drawn))} times (dynamic_sampling); "
            f"{formatting.count(int(left))} stayed equal."
        )
    return said


def rollouts(samples: Sequence[Row]) -> list[dict[str, Any]]:
    """Sample answers of a few rollouts from the first to the last, in the form of the page's generations."""
    known = rows_with(samples, "samples")
    if not known:
        return []
    count = min(SHOWN_ROLLOUTS, len(known))
    places = sorted({round(i * (len(known) - 1) / max(count - 1, 1)) for i in range(count)})
    shown = []
    for place in places:
        entries = [mapping(item) for item in listing(known[place].get("samples")) if mapping(item)]
        best_and_worst = entries[:1] + entries[-1:] if len(entries) > 1 else entries
        for name, entry in zip(("highest reward", "lowest reward"), best_and_worst, strict=False):
            reward = formatting.loss(formatting.finite(entry.get("reward")))
            answer = {
                "name": name,
                "note": reward if entry.get("stopped") else f"{reward}, cut off",
                "kind": "" if entry.get("stopped") else "cut",
                "text": str(entry.get("answer") or ""),
                "missing": "" if entry.get("answer") else "no text",
            }
            title = f"rollout {formatting.count(known[place].get('step'))}"
            shown.append({"source": title, "prompt": str(entry.get("prompt") or ""), "answers": [answer]})
    return shown


REPORT = GRPO_REPORT = ReportPart(
    view=lambda record, rows, run_dir: rl_view(
        record, rows, read_metrics(Path(run_dir) / ROLLOUT_SAMPLES_FILE).rows
    ),
    template="rl/report.html.jinja",
    place="before curves",
    first_facts=rl_facts,
    x=ROLLOUTS,
)


def _introduction(record: Row, said: Sources) -> list[str]:
    name = _LONG_NAMES[_algorithm(record)]
    return [f"The result of {name}{said.of}{said.on}, made with {said.made_with}."]


CARD = GRPO_CARD = CardPart(introduction=_introduction)
