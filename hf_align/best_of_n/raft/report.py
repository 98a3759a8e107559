"""What a run of rejection-sampling fine-tuning shows: its rounds, and held-out answers before and after.

Reads the run record like the rest of the page, and copes with whatever is missing. Drawings are in
``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.best_of_n.raft.plots import raft_plots
from hf_align.best_of_n.record import BestOfNRecord
from hf_align.reporting.generation_view import best_and_worst
from hf_align.reporting.run_view import Fact, listing, mapping, method
from hf_align.runs import formatting

Row = Mapping[str, Any]

COLUMNS = [
    "round",
    "samples, mean",
    "best of n",
    "kept",
    "held-out reward",
    "change from the start",
    "end by themselves",
]


def is_trained(record: Row) -> bool:
    """Whether a run of Best-of-N learned from its best answers."""
    record = BestOfNRecord.of(record)
    return record.command == "best-of-n" and bool(record.recipe.get("train"))


def raft_view(record: Row) -> dict[str, Any]:
    """The same entries as those of ``best_of_n_view``."""
    rounds = rounds_of(record)
    last = rounds[-1].get("round") if rounds else None
    return {
        "title": "Rounds",
        "of_round": last or None,
        "label": "Sampling, what was kept, and held-out answers of every round",
        "settings": settings(record),
        "columns": COLUMNS,
        "rows": [_row(entry) for entry in rounds],
        "notes": notes(record),
        "plots": raft_plots(rounds),
        "displacement": [],
        "answers": [best_and_worst(item) for item in BestOfNRecord.of(record).best_of_n_samples],
    }


def rounds_of(record: Row) -> list[dict[str, Any]]:
    """The entries of the rounds, the start first."""
    return [mapping(entry) for entry in BestOfNRecord.of(record).rounds if mapping(entry)]


def raft_facts(record: Row) -> list[Fact]:
    """The headline facts, in reading order; what is unknown is left out."""
    record = BestOfNRecord.of(record)
    rounds, final = rounds_of(record), record.final_metrics
    found = []
    before, after = (formatting.finite(final.get(f"eval_reward/total{end}")) for end in ("_before", ""))
    if before is not None and after is not None:
        change = (
            formatting.between(mapping(rounds[-1].get("held_out")).get("change_interval"), _signed)
            if rounds
            else ""
        )
        detail = f"change, 95 %: {change}" if change else "one answer to each held-out prompt"
        value = f"{formatting.loss(before)} → {formatting.loss(after)}"
        found.append(Fact("Held-out reward", value, detail))
    done = [entry for entry in rounds if entry.get("round")]
    if done:
        found.append(Fact("Rounds", formatting.count(len(done)), "of sampling and training"))
        kept = formatting.count(sum(entry.get("kept") or 0 for entry in done))
        found.append(Fact("Answers learned from", kept, _sampled(done)))
    found.append(Fact("Method", method(record)))
    model = record.model
    if model.precision:
        found.append(Fact("Precision", model.precision))
    return found + cost_facts(record)


def cost_facts(record: Row) -> list[Fact]:
    """Time, speed and memory of a run that samples and scores; what is unknown is left out."""
    record = BestOfNRecord.of(record)
    costs = (
        ("Wall time", formatting.duration, record.wall_time_seconds),
        ("Sampling and scoring", _speed, record.tokens_per_second),
        ("Peak memory", formatting.size, record.peak_memory_bytes),
    )
    return [Fact(label, form(value)) for label, form, value in costs if value is not None]


def _speed(tokens_per_second: float) -> str:
    return f"{formatting.rate(tokens_per_second)} tokens/s"


def penalty_setting(recipe: Row) -> list[tuple[str, str]]:
    """What an answer loses that the token limit cut off, as (what, in words); empty where that is nothing."""
    penalty = formatting.finite(recipe.get("missing_eos_penalty"))
    if not penalty:
        return []
    return [("Cut off", f"{formatting.plain(penalty)} off the reward of an answer that did not stop")]


def settings(record: Row) -> list[tuple[str, str]]:
    """What is kept, and how held-out prompts are answered, as (what, in words)."""
    recipe = BestOfNRecord.of(record).recipe
    names = [str(name) for key in ("reward_model", "reward_functions") for name in listing(recipe.get(key))]
    words = [("Reward", " + ".join(names))] if names else []
    if formatting.finite(recipe.get("keep_best")) is not None:
        count, of = formatting.count(recipe["keep_best"]), formatting.count(recipe.get("num_generations"))
        rules = [f"the best {count} of {of} answers to a prompt"]
        if recipe.get("keep_above_mean") is not False:
            rules.append("above the mean of its answers")
        if formatting.finite(recipe.get("min_reward")) is not None:
            rules.append(f"worth at least {formatting.plain(recipe['min_reward'])}")
        if not recipe.get("keep_unfinished"):
            rules.append("not cut off by the token limit")
        words.append(("Kept", ", ".join(rules)))
    return words + penalty_setting(recipe)


def notes(record: Row) -> list[str]:
    """What the metrics mean and what they rest on, as sentences."""
    rounds, recipe = rounds_of(record), BestOfNRecord.of(record).recipe
    held_out = mapping(rounds[0].get("held_out")) if rounds else {}
    said = [
        "The samples of a round are drawn before its training, so that those of round 1 are of the model "
        "as it was. The held-out reward of a round is measured after it.",
    ]
    if held_out:
        greedy = not formatting.finite(recipe.get("eval_temperature"))
        how = "the likeliest tokens"
        if not greedy:
            temperature = formatting.plain(recipe["eval_temperature"])
            how = f"sampled at temperature {temperature} with the same random numbers in every round"
        said.append(
            f"{formatting.count(held_out.get('prompts'))} held-out prompts with one answer each, {how}. "
            "Intervals come from drawing these prompts again 2,000 times: they say what other prompts would "
            "change, not another seed."
        )
    last = mapping(rounds[-1].get("sampled")) if rounds else {}
    undecided = formatting.finite(last.get("undecided"))
    if undecided:
        number = formatting.count(rounds[-1].get("round"))
        said.append(
            f"In round {number} all answers to {formatting.share(undecided)} of the prompts had the same "
            "reward: there was nothing to choose."
        )
    return said


def _row(entry: Row) -> dict[str, Any]:
    number = formatting.finite(entry.get("round"))
    sampled, held_out = mapping(entry.get("sampled")), mapping(entry.get("held_out"))
    curve = [mapping(point) for point in listing(sampled.get("curve"))]
    ends = [formatting.loss(point.get("reward")) for point in (curve[:1] + curve[-1:])]
    kept = formatting.MISSING
    if formatting.finite(entry.get("kept")) is not None:
        kept = f"{formatting.count(entry['kept'])} ({formatting.count(entry.get('kept_prompts'))} prompts)"
    change = formatting.MISSING
    if number and formatting.finite(held_out.get("change")) is not None:
        between = formatting.between(held_out.get("change_interval"), _signed)
        change = _signed(held_out["change"]) + (f" ({between})" if between else "")
    interval = [formatting.loss(limit) for limit in listing(held_out.get("interval"))]
    reward = formatting.loss(held_out.get("reward")) + (f" ({' to '.join(interval)})" if interval else "")
    stopped = held_out.get("stopped", sampled.get("stopped"))
    return {
        "name": formatting.count(number) if number else "start",
        "cells": [
            *(ends if len(ends) == 2 else [formatting.MISSING] * 2),
            kept,
            reward if held_out else formatting.MISSING,
            change,
            formatting.MISSING if formatting.finite(stopped) is None else formatting.share(stopped),
        ],
    }


def _signed(value: Any) -> str:
    text = formatting.loss(value)
    return f"+{text}" if (formatting.finite(value) or 0) > 0 else text


def _sampled(rounds: list[dict[str, Any]]) -> str:
    total = 0
    for entry in rounds:
        sampled = mapping(entry.get("sampled"))
        prompts, each = (formatting.finite(sampled.get(key)) for key in ("prompts", "samples_per_prompt"))
        total += int((prompts or 0) * (each or 0))
    return f"of {formatting.count(total)} that were sampled" if total else ""
