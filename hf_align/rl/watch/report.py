"""The parts of the report about the reward itself: what was checked before training, and what the watch saw.

Reads the run record and the metrics, and copes with whatever is missing. The curves are in ``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.rl.record import PpoRecord
from hf_align.rl.watch.plots import histogram, watch_plots
from hf_align.runs import formatting
from hf_align.runs.metrics import training_rows

Row = Mapping[str, Any]

_ACTIONS = {
    "warn": "a warning",
    "stop": "a warning, and the run saves and ends",
    "roll_back": "a warning, and the run ends with the last checkpoint from before",
}
_PARTS = {"reward/": "Training reward ", "watch/": "Watch reward "}


def check_view(record: Row) -> dict[str, Any] | None:
    """Scores of the first answers, and accuracy on compared answers, as the page shows them; None without."""
    found = PpoRecord.of(record).reward_check
    scores = {str(name): mapping(item) for name, item in found.scores.items()}
    pairs = {str(name): mapping(item) for name, item in found.pairs.items()}
    if not scores and not pairs:
        return None
    within = any(entry.get("within_std") is not None for entry in scores.values())
    columns = ["first answers", "answers", "mean", "standard deviation"]
    columns += ["within a prompt"] if within else []
    plots = [
        histogram(f"check-{number}", f"First answers: {_name(name)}", entry)
        for number, (name, entry) in enumerate(scores.items())
    ]
    return {
        "label": "How the first answers score",
        "settings": [
            (f"{_name(name)} on compared answers", _accuracy(entry)) for name, entry in pairs.items()
        ],
        "columns": [*columns, "lowest", "highest", "ties"],
        "rows": [{"name": _name(name), "cells": _cells(entry, within)} for name, entry in scores.items()],
        "warnings": [str(warning) for warning in found.warnings],
        "notes": _check_notes(scores, within),
        "plots": [plot for plot in plots if plot is not None],
        "displacement": [],
    }


def watch_view(record: Row, rows: Sequence[Row]) -> dict[str, Any] | None:
    """What the watch was set to, what it saw, its drawings and the answers it found; None without a watch."""
    record = PpoRecord.of(record)
    watch = record.reward_watch
    recipe = record.recipe
    if not watch:
        return None
    alarms = [mapping(item) for item in watch.alarms if mapping(item)]
    rewards = ", ".join(str(name) for name in watch.rewards)
    plots = watch_plots(record, rows)
    return {
        "label": "Limits of the watch",
        "settings": [
            ("Watch reward", rewards or "none; only the metrics of the answers were watched"),
            ("When it fires", _ACTIONS.get(watch.action, watch.action)),
        ],
        "columns": ["watched", "limit", "fired at rollout"],
        "rows": _limit_rows(recipe, rewards, alarms),
        "warnings": [_alarm_text(alarm) for alarm in alarms],
        "notes": [_watch_note(recipe, rows)],
        "plots": plots,
        "displacement": [],
        "answers": [item for alarm in alarms for item in _answers(alarm)],
    }


def watch_facts(record: Row) -> list[Fact]:
    """The headline of a run in which the watch fired."""
    watch = PpoRecord.of(record).reward_watch
    alarms = [mapping(item) for item in watch.alarms if mapping(item)]
    if not alarms:
        return []
    ended = watch.ended
    detail = "the run went on"
    if ended:
        place = ended.get("checkpoint")
        detail = f"taken back to {place}" if place else "the run ended there"
    return [
        Fact("Reward-hacking watch", f"fired at rollout {formatting.count(alarms[0].get('rollout'))}", detail)
    ]


def _name(key: str) -> str:
    if key == "reward/total":
        return "Training reward, in all"
    for start, words in _PARTS.items():
        if key.startswith(start):
            return f"{words}{key.removeprefix(start)}"
    return key


def _accuracy(entry: Row) -> str:
    limits = listing(entry.get("accuracy_interval"))
    if formatting.finite(entry.get("accuracy")) is None or len(limits) != 2:
        return (
            "not checked: its folder holds no metrics of its own, and the recipe names no reward_check_pairs"
        )
    low, high = map(formatting.share, limits)
    return (
        f"{formatting.share(entry['accuracy'])} in the right order (95 % interval {low} to {high}; "
        f"{formatting.count(entry.get('prompts'))} prompts; {entry.get('source')})"
    )


def _cells(entry: Row, within: bool) -> list[str]:
    cells = [formatting.count(entry.get("answers"))]
    cells += [formatting.loss(entry.get(key)) for key in ("mean", "std")]
    cells += [formatting.loss(entry.get("within_std"))] if within else []
    return [
        *cells,
        *(formatting.loss(entry.get(key)) for key in ("min", "max")),
        formatting.share(entry.get("ties")),
    ]


def _check_notes(scores: Mapping[str, Row], within: bool) -> list[str]:
    if not scores:
        return []
    said = "The answers of the first rollout, which the policy wrote before it was trained."
    if within:
        return [
            f"{said} Within a prompt: the standard deviation of the answers to one prompt around their mean; "
            "ties: pairs of answers to one prompt with equal scores."
        ]
    return [f"{said} Ties: pairs of answers with equal scores."]


def _limit_rows(recipe: Row, rewards: str, alarms: Sequence[Row]) -> list[dict[str, Any]]:
    drop = f"{formatting.plain(recipe.get('watch_max_drop'))} standard deviations below its best"
    limits = [
        ("watch/", "Watch reward falls while the training reward rises", "watch_max_drop", drop),
        ("kl", "KL to the reference", "watch_max_kl", "{} nats per answer"),
        (
            "response_length",
            "Length of the answers",
            "watch_max_length_ratio",
            "{} times as long, or as short, as at first",
        ),
        ("repetition", "Repeated 4-grams", "watch_max_repetition_rise", "{} above the first"),
    ]
    shown = []
    for start, name, key, text in limits:
        value = formatting.finite(recipe.get(key))
        if value is None or (key == "watch_max_drop" and not rewards):
            limit = "off"
        else:
            words = formatting.share(value) if key == "watch_max_repetition_rise" else formatting.plain(value)
            limit = text.replace("{}", words)
        fired = [
            formatting.count(one.get("rollout")) for one in alarms if str(one.get("figure")).startswith(start)
        ]
        shown.append(
            {"name": name, "cells": [limit, ", ".join(fired) or ("–" if limit == "off" else "never")]}
        )
    return shown


def _alarm_text(alarm: Row) -> str:
    return (
        f"At rollout {formatting.count(alarm.get('rollout'))} the watch fired, with the rollouts from "
        f"{formatting.count(alarm.get('since'))} on in doubt: {alarm.get('said')}."
    )


def _watch_note(recipe: Row, rows: Sequence[Row]) -> str:
    window, patience = (formatting.count(recipe.get(f"watch_{key}")) for key in ("window", "patience"))
    seen = formatting.count(len(training_rows(rows)))
    return (
        f"Means of {window} rollouts are compared; a limit has to be passed {patience} times in a row, and a "
        f"fall of the watch reward has to be larger than chance as well. {seen} rollouts were watched."
    )


def _answers(alarm: Row) -> list[dict[str, Any]]:
    """The answers behind an alarm in the form of the page's generations."""
    shown = []
    for sample in map(mapping, listing(alarm.get("samples"))):
        source = f"rollout {formatting.count(alarm.get('rollout'))}"
        watched = mapping(sample.get("watch"))
        scores = [f"reward {formatting.loss(sample.get('reward'))}"]
        scores += [f"{name} {formatting.loss(value)}" for name, value in watched.items()]
        answer = {
            "name": "answer",
            "note": ", ".join(scores),
            "kind": "cut",
            "text": str(sample.get("answer") or ""),
            "missing": "" if sample.get("answer") else "no text",
        }
        shown.append({"source": source, "prompt": str(sample.get("prompt") or ""), "answers": [answer]})
    return shown
