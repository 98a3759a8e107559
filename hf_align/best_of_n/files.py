"""What is made of sampled and scored answers: data sets for further training, and metrics for the report.

``best.jsonl`` is fine-tuning data, ``rankings.jsonl`` and ``pairs.jsonl`` are compared answers. Each row of
them can be read back as it is: answers that say nothing and prompts whose answers all tie are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.best_of_n.answers import SampledPrompt
from hf_align.best_of_n.curve import best_of_n_curve
from hf_align.best_of_n.recipe import BestOfNOptions
from hf_align.best_of_n.record import Samples
from hf_align.data.comparisons.forms import as_preference, as_ranking
from hf_align.runs.record import write_atomic
from hf_align.types import Comparison, Message

BEST_FILE, RANKINGS_FILE, PAIRS_FILE = "best.jsonl", "rankings.jsonl", "pairs.jsonl"
SHOWN_PROMPTS = 12


def write_results(
    folder: str | Path, answered: Sequence[SampledPrompt], options: BestOfNOptions
) -> dict[str, int]:
    """Write the three data sets; returns how many rows each has, by file name."""
    rows = {
        BEST_FILE: [row for each in answered for row in best_rows(each, options)],
        RANKINGS_FILE: [as_ranking(found) for each in answered if (found := ranking(each)) is not None],
        PAIRS_FILE: [as_preference(found) for each in answered if (found := pair(each, options)) is not None],
    }
    for name, lines in rows.items():
        content = b"".join(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n" for line in lines)
        write_atomic(Path(folder) / name, content)
    return {name: len(lines) for name, lines in rows.items()}


def kept(answered: SampledPrompt, options: BestOfNOptions) -> list[int]:
    """The numbers of the best answers that may be learned from, the best first; repeated ones count once."""
    found: dict[str, int] = {}
    mean = math.fsum(answered.scores) / len(answered.scores)
    for i in sorted(range(len(answered.answers)), key=lambda i: -answered.scores[i]):
        text = answered.answers[i].strip()
        enough = options.min_reward is None or answered.scores[i] >= options.min_reward
        enough = enough and (answered.scores[i] > mean or not options.above_mean)
        if text and enough and (answered.stopped[i] or options.keep_unfinished):
            found.setdefault(text, i)
    return list(found.values())[: options.keep_best]


def best_rows(answered: SampledPrompt, options: BestOfNOptions) -> list[dict[str, Any]]:
    """Rows of the format prompt_completion, with ``reward`` and ``source`` beside it."""
    rows = []
    for i in kept(answered, options):
        text = answered.answers[i]
        turn = [{"role": "assistant", "content": text}]
        rows.append(
            {
                "prompt": answered.prompt,
                "completion": text if isinstance(answered.prompt, str) else turn,
                "reward": answered.scores[i],
                "source": answered.source,
            }
        )
    return rows


def ranking(answered: SampledPrompt) -> Comparison | None:
    """All answers that differ, the best first; None where none is better than another."""
    best_of: dict[str, int] = {}
    for i in sorted(range(len(answered.answers)), key=lambda i: -answered.scores[i]):
        if answered.answers[i].strip():
            best_of.setdefault(answered.answers[i].strip(), i)
    chosen = list(best_of.values())
    if len({answered.scores[i] for i in chosen}) < 2:
        return None
    return _comparison(answered, chosen)


def pair(answered: SampledPrompt, options: BestOfNOptions) -> Comparison | None:
    """The best answer that may be learned from, and the worst; None where there are no two such."""
    best = kept(answered, options)[:1]
    whole = ranking(answered)
    if not best or whole is None or whole.scores[-1] >= answered.scores[best[0]]:
        return None
    scores = (answered.scores[best[0]], whole.scores[-1])
    return Comparison(
        whole.source, whole.prompt, (answered.answers[best[0]], whole.answers[-1]), scores, whole.margin
    )


def _comparison(answered: SampledPrompt, chosen: Sequence[int]) -> Comparison:
    prompt = answered.prompt
    if not isinstance(prompt, str):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
    return Comparison(
        answered.source,
        prompt if isinstance(prompt, str) else turns,
        tuple(answered.answers[i] for i in chosen),
        tuple(answered.scores[i] for i in chosen),
    )


def metrics(answered: Sequence[SampledPrompt], *, seed: int) -> Samples:
    """What run.json says about the answers. Shares and means are over all samples of all prompts.

    ``curve``: see ``best_of_n_curve``. ``undecided``: share of the prompts whose answers all have one score.
    ``rewards``: the mean of each reward over all samples, and over the best of each prompt.
    """
    scores = np.array([each.scores for each in answered])
    best = scores.argmax(axis=1)
    rewards = {}
    for name in answered[0].rewards:
        values = np.array([each.rewards[name] for each in answered])
        rewards[name] = {
            "mean": float(values.mean()),
            "best": float(values[np.arange(len(values)), best].mean()),
        }
    distinct = [len({text.strip() for text in each.answers}) / len(each.answers) for each in answered]
    return Samples(
        prompts=len(answered),
        samples_per_prompt=scores.shape[1],
        curve=best_of_n_curve(scores, seed=seed),
        rewards=rewards,
        stopped=float(np.mean([each.stopped for each in answered])),
        tokens=float(np.mean([each.tokens for each in answered])),
        distinct=float(np.mean(distinct)),
        undecided=float((scores.min(axis=1) == scores.max(axis=1)).mean()),
    )


def shown(answered: Sequence[SampledPrompt], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The best and the worst answer to a few prompts, spread over all. ``texts``: the prompts as rendered."""
    places = np.unique(np.linspace(0, len(answered) - 1, min(SHOWN_PROMPTS, len(answered))).round())
    entries = []
    for place in places.astype(int).tolist():
        each = answered[place]
        entry: dict[str, Any] = {
            "source": each.source,
            "prompt": texts[place],
            "reference": each.reference,
        }
        order = sorted(range(len(each.scores)), key=lambda i: -each.scores[i])
        for name, i in (("best", order[0]), ("worst", order[-1])):
            entry[name] = each.answers[i]
            entry[f"{name}_reward"] = each.scores[i]
            entry[f"{name}_stopped"] = each.stopped[i]
        entries.append(entry)
    return entries
