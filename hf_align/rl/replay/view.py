"""A replayed update in words and tables: metrics as logged and as computed again, a breakdown of answers.

The same texts serve the terminal (``text``) and the page (``page``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_align.reporting.token_view import token_texts
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.runs import formatting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.rl.replay.breakdown import AnswerBreakdown
    from hf_align.rl.replay.run import Recomputed, Replayed

OF_THE_MACHINE = ("tokens_per_second", "peak_memory_bytes")
"""Figures that no replay can give again, beside those that end with ``_seconds``."""
_CONTEXT = 16
"""Tokens of a prompt that are decoded with its answer, whose first one would lose its space otherwise."""

# (name of a token's metric, heading, what it is)
TOKEN_COLUMNS = (
    ("kl", "KL", "estimated divergence from the reference, in nats"),
    ("reward", "reward", "the divergence at its price, and at the last token the score"),
    ("value", "value", "what the value head expected from here on"),
    ("return", "return", "what the value head is trained towards"),
    ("raw advantage", "raw adv.", "advantage before it was scaled"),
    ("advantage", "adv.", "the advantage that was trained with, scaled where the recipe says so"),
    ("ratio", "ratio", "of probabilities, trained policy to the one that sampled, when last trained on"),
    ("clipped", "clipped", "passes in which the ratio lay outside the clip range"),
    ("loss", "loss", "the token's part of total_loss"),
)


@dataclass(frozen=True)
class Figure:
    """One logged metric. ``again``: computed again, or an en dash; ``difference``: = where no bit differs."""

    name: str
    recorded: str
    again: str
    difference: str


def metrics_table(recorded: Mapping[str, float], again: Mapping[str, float] | None) -> list[Figure]:
    """Every metric that says something about the rollout and its update, in the order of the log."""
    names = [name for name in recorded if name not in OF_THE_MACHINE and not name.endswith("_seconds")]
    found = []
    for name in [*names, *(name for name in again or {} if name not in recorded)]:
        old, new = recorded.get(name), (again or {}).get(name)
        difference = ""
        if old is not None and new is not None:
            same = old == new or (np.isnan(old) and np.isnan(new))
            difference = "=" if same else f"{new - old:+.2g}"
        shown = [formatting.MISSING if value is None else f"{value:.7g}" for value in (old, new)]
        found.append(Figure(name, shown[0], shown[1], difference))
    return found


def verdict(replayed: Replayed) -> list[str]:
    """How the replay went, as sentences."""
    again, recording = replayed.again, replayed.recording
    said = []
    if not recording.finished:
        said.append("The run ended in this update, so that only the metrics of the rollout are recorded.")
    if again is None:
        said += ["The update cannot be computed again; this is what was recorded.", replayed.why_not]
        return [*said, *replayed.notes]
    said += _how(again, recording.step)
    table = metrics_table(recording.metrics, again.metrics)
    compared = [metric for metric in table if metric.difference]
    differing = [metric.name for metric in compared if metric.difference != "="]
    if again.failure:
        said.append(f"The update stops: {again.failure}")
    if differing:
        said.append(f"{len(differing)} of {len(compared)} metrics differ: {', '.join(differing)}.")
    else:
        said.append(f"All {len(compared)} metrics are as recorded, bit for bit.")
    largest = {name: value for name, value in again.measured.items() if value > 0}
    if largest:
        listed = ", ".join(f"{name} {value:.2g}" for name, value in largest.items())
        said.append(f"Largest differences at a token, measured again: {listed}.")
    return [*said, *replayed.notes]


def as_recorded(replayed: Replayed) -> bool:
    """Whether the whole update was computed again, with the same bits, from the same rollouts on the way."""
    again = replayed.again
    if again is None or again.failure or any(again.on_the_way.values()) or any(again.measured.values()):
        return False
    table = metrics_table(replayed.recording.metrics, again.metrics)
    return replayed.recording.finished and all(metric.difference in ("", "=") for metric in table)


def _how(again: Recomputed, step: int) -> list[str]:
    base = again.base
    place = "the start of training" if base.checkpoint is None else str(base.checkpoint)
    between = list(again.on_the_way)
    by_way = f" by way of the updates of {_span(between)}" if between else ""
    said = [f"Computed again from {place}{by_way}."]
    wrong = {at: names for at, names in again.on_the_way.items() if names}
    if wrong:
        first = min(wrong)
        said.append(
            f"On the way the metrics of {len(wrong)} of {len(between)} updates are not as logged, first "
            f"those of rollout {first} ({', '.join(wrong[first])})."
        )
    elif between:
        said.append("On the way all metrics are as logged, bit for bit.")
    return said


def _span(steps: Sequence[int]) -> str:
    return f"rollout {steps[0]}" if len(steps) == 1 else f"rollouts {steps[0]} to {steps[-1]}"


def score_steps(breakdown: AnswerBreakdown, replayed: Replayed) -> list[str]:
    """How the score of an answer and its advantages came about, a step a line."""
    options, rewards = replayed.config.options, replayed.config.rewards
    products = [
        f"{value:.4g} {name}" if weight == 1 else f"{weight:g} × {value:.4g} {name}"
        for name, (value, weight) in breakdown.parts.items()
    ]
    lines = [f"reward {breakdown.reward:.4g} = {' + '.join(products)}"]
    if breakdown.penalized != breakdown.reward:
        why = []
        if rewards.missing_eos_penalty and not breakdown.stopped:
            why.append(f"{rewards.missing_eos_penalty:g}, since it was cut off (missing_eos_penalty)")
        if options.soft_punish_cache is not None:
            why.append(f"what its {len(breakdown.ids)} tokens cost (soft_punish_cache)")
        lines.append(f"less {' and '.join(why)}: {breakdown.penalized:.4g}")
    if options.normalize_scores:
        mean, deviation = breakdown.moments.mean, breakdown.moments.std
        lines.append(
            f"less the mean of the scores so far ({mean:.4g}), divided by their deviation ({deviation:.4g})"
        )
    if options.score_clip is not None:
        lines.append(f"clipped to ±{options.score_clip:g}")
    place = ALGORITHMS[options.algorithm].kl_penalty
    lines.append(f"score {breakdown.score:.4g}{', given to the last token' if place == 'tokens' else ''}")
    coefficient = replayed.recording.before.kl_coef
    if place == "loss":
        lines.append(
            f"KL {breakdown.kl:.4g} nats; the loss takes kl_coef {coefficient:.4g} times it from there on"
        )
    else:
        where = "token by token" if place == "tokens" else "the score"
        lines.append(
            f"KL {breakdown.kl:.4g} nats × kl_coef {coefficient:.4g} = {breakdown.kl_penalty:.4g}, "
            f"taken off {where}"
        )
    if "raw advantage" in breakdown.tokens:
        if options.whiten_rewards:
            lines.append(
                "rewards of tokens scaled to variance 1 in the rollout, around their mean (whiten_rewards)"
            )
        raw = float(breakdown.tokens["raw advantage"].mean())
        whitened = " after whitening" if options.whiten_advantages else " as trained with"
        lines.append(f"advantage {raw:.4g} in the mean over its tokens, {breakdown.advantage:.4g}{whitened}")
    else:
        lines.append(f"advantage {breakdown.advantage:.4g} in the mean over its tokens")
    losses = {
        "policy": breakdown.policy_loss,
        "value": breakdown.value_loss,
        "KL": breakdown.kl_loss,
        "total": breakdown.loss,
    }
    if breakdown.loss is not None:
        shares = ", ".join(f"{name} {share:+.4g}" for name, share in losses.items() if share is not None)
        lines.append(f"its part of the logged losses: {shares}")
    if breakdown.watch:
        watched = ", ".join(f"{name} {value:.4g}" for name, value in breakdown.watch.items())
        lines.append(f"not trained on: {watched}")
    return lines


def answer_texts(breakdown: AnswerBreakdown, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of each token of the answer; empty for one that is a later part of the same character."""
    context = list(breakdown.prompt_ids[-_CONTEXT:])
    texts: list[str] = []
    for length, text in token_texts([*context, *breakdown.ids.tolist()], tokenizer):
        texts += [text, *[""] * (length - 1)]
    return texts[len(context) :]


def token_cells(breakdown: AnswerBreakdown, place: int) -> list[str]:
    """The metrics of one token under the headings of :func:`token_headings`."""
    cells = []
    for name, _, _ in TOKEN_COLUMNS:
        if name not in breakdown.tokens:
            continue
        value = float(breakdown.tokens[name][place])
        if name == "clipped":
            cells.append(f"{value:.0f} of {breakdown.passes}")
        elif np.isnan(value):
            cells.append(formatting.MISSING)
        else:
            cells.append(f"{value:.4f}" if name == "ratio" else f"{value:.3g}")
    return cells


def token_headings(breakdown: AnswerBreakdown) -> list[tuple[str, str]]:
    """(heading, what it is) of each metric that the tokens of ``breakdown`` have."""
    return [(heading, text) for name, heading, text in TOKEN_COLUMNS if name in breakdown.tokens]


def answer_columns(found: Sequence[AnswerBreakdown]) -> list[str]:
    """The headings of :func:`answer_cells`."""
    first = found[0]
    parts = list(first.parts) if len(first.parts) > 1 else []
    computed = ["loss", "clipped"] if first.loss is not None else []
    return ["answer", "prompt", "tokens", *parts, "reward", "score", "KL", "advantage", *computed, "end"]


def answer_cells(breakdown: AnswerBreakdown) -> list[str]:
    """One answer on one line."""
    parts = [value for value, _ in breakdown.parts.values()] if len(breakdown.parts) > 1 else []
    numbers = [*parts, breakdown.reward, breakdown.score, breakdown.kl, breakdown.advantage]
    cells = [str(breakdown.number), str(breakdown.prompt), str(len(breakdown.ids))]
    cells += [f"{value:.3g}" for value in numbers]
    if breakdown.loss is not None:
        cells += [f"{breakdown.loss:+.2g}", formatting.share(breakdown.clipped)]
    return [*cells, "" if breakdown.stopped else "cut off"]
