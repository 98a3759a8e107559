"""What a run of rejection-sampling fine-tuning reports: a round at a time, and before against after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_align.best_of_n.answers import SampledPrompt
from hf_align.best_of_n.files import kept, metrics, pair, shown
from hf_align.best_of_n.recipe import BestOfNOptions
from hf_align.data.chat.prompts import Prompt
from hf_align.runs.schema import Record
from hf_align.statistics.bootstrap import mean_and_interval

SHOWN_GENERATIONS = 12


def round_metrics(
    number: int,
    sampled: Sequence[SampledPrompt],
    trained: Mapping[str, Any],
    options: BestOfNOptions,
    *,
    seed: int,
) -> dict[str, Any]:
    """What a round sampled, kept and learned. ``trained``: the record of its fine-tuning.

    ``kept``: answers, ``kept_prompts``: prompts with at least one, ``kept_reward``: their mean.
    """
    chosen = [[each.scores[i] for i in kept(each, options)] for each in sampled]
    rewards = [score for scores in chosen for score in scores]
    trained = Record.of(trained)
    final = trained.final_metrics
    return {
        "round": number,
        "sampled": metrics(sampled, seed=seed),
        "kept": len(rewards),
        "kept_prompts": sum(bool(scores) for scores in chosen),
        "kept_reward": float(np.mean(rewards)) if rewards else None,
        "pairs": sum(pair(each, options) is not None for each in sampled),
        "steps": final.get("steps"),
        "train_loss": final.get("train_loss"),
        "training_seconds": trained.wall_time_seconds,
    }


def held_out_metrics(
    answered: Sequence[SampledPrompt], start: Sequence[SampledPrompt], *, seed: int
) -> dict[str, Any] | None:
    """What the answers to the held-out prompts are worth, and their change from the ``start``.

    The change is taken prompt by prompt. Intervals are the middle 95 % over prompts drawn again with
    replacement. None without prompts.
    """
    if not answered:
        return None
    scores = np.array([each.scores[0] for each in answered])
    before = np.array([each.scores[0] for each in start])
    reward, interval = mean_and_interval(scores, seed=seed)
    change, change_interval = mean_and_interval(scores - before, seed=seed)
    return {
        "prompts": len(answered),
        "reward": reward,
        "interval": interval,
        "change": change,
        "change_interval": change_interval,
        "rewards": {
            name: float(np.mean([each.rewards[name][0] for each in answered])) for name in answered[0].rewards
        },
        "stopped": float(np.mean([each.stopped[0] for each in answered])),
        "tokens": float(np.mean([each.tokens[0] for each in answered])),
    }


def metrics_rows(rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a step is a round, 0 the start."""
    rows = []
    for entry in rounds:
        row: dict[str, Any] = {"step": entry["round"]}
        sampled, held_out = entry.get("sampled"), entry.get("held_out")
        if sampled:
            curve = sampled["curve"]
            row |= {"reward/total": curve[0]["reward"], "reward/best": curve[-1]["reward"]}
            row |= {key: entry[key] for key in ("kept", "kept_prompts", "kept_reward", "steps", "train_loss")}
        if held_out:
            row["eval_reward/total"] = held_out["reward"]
            parts = held_out["rewards"]
            row |= {f"eval_reward/{name}": value for name, value in parts.items() if len(parts) > 1}
            row |= {"eval_stopped": held_out["stopped"], "eval_tokens": held_out["tokens"]}
        rows.append(row)
    return rows


def final_metrics(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics that runs are compared by."""
    last = rounds[-1]
    found: dict[str, Any] = {"rounds": last["round"], "kept": sum(entry.get("kept") or 0 for entry in rounds)}
    if last.get("sampled"):
        curve = last["sampled"]["curve"]
        found |= {"reward/total": curve[0]["reward"], "reward/best": curve[-1]["reward"]}
    if last.get("held_out"):
        found |= {
            "eval_reward/total_before": rounds[0]["held_out"]["reward"],
            "eval_reward/total": last["held_out"]["reward"],
            "eval_answers": last["held_out"]["prompts"],
        }
    return found


def generations(
    prompts: Sequence[Prompt], before: Sequence[SampledPrompt], after: Sequence[SampledPrompt]
) -> list[dict[str, Any]]:
    """A few held-out prompts, spread over all, with their answers before and after training."""
    count = min(SHOWN_GENERATIONS, len(prompts))
    entries = []
    for place in np.unique(np.linspace(0, len(prompts) - 1, count).round()).astype(int).tolist():
        entry: dict[str, Any] = {
            "source": prompts[place].example.source,
            "prompt": prompts[place].text,
            "reference": prompts[place].reference,
        }
        for when, each in (("before", before[place]), ("after", after[place])):
            entry[when] = each.answers[0]
            entry[f"{when}_stopped"] = each.stopped[0]
            entry[f"{when}_reward"] = each.scores[0]
        entries.append(entry)
    return entries


def best_and_worst(sampled: Sequence[SampledPrompt], prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The best and the worst of the answers to a few prompts of a round."""
    return shown(sampled, [prompt.text for prompt in prompts])
