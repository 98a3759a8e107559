"""The evidence of an alarm of the watch over the reward: answers that show what is meant, and the warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.rl.watch import rules
from hf_align.statistics.repetition import repeated_ngrams

if TYPE_CHECKING:
    from hf_align.rl.episodes import Episode
    from hf_align.rl.watch.rules import Alarm

Floats = npt.NDArray[np.float64]

SHOWN = 4
"""Answers that are kept as evidence for each alarm."""

_SHOWN_CHARACTERS = 160

_WHAT_HELPS = (
    "Read the answers under reward_watch in run.json or in the report: if they are not what the reward was "
    "meant for, fix the reward, or hold the policy nearer to the reference (a higher kl_coef, kl_stop, "
    "fewer rollouts)."
)


def evidence(alarm: Alarm, prompts: Mapping[int, str], episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """A few answers of the rollout that show best what is meant, the clearest first; no text twice.

    ``prompts``: their texts by number. For a watch reward: those whose training reward is high and whose
    watch reward is low, both in standard deviations of the rollout. Otherwise: those that are farthest from
    the reference, or repeat themselves most, or are longest or shortest.
    """
    order = np.argsort(-_suspicion(alarm, episodes), kind="stable")
    found: list[dict[str, Any]] = []
    for place in order:
        one = episodes[int(place)]
        if len(found) < SHOWN and one.text not in [sample["answer"] for sample in found]:
            found.append(
                {
                    "prompt": prompts[one.prompt],
                    "answer": one.text,
                    "reward": one.reward,
                    "watch": dict(one.watch),
                    "tokens": len(one.tokens),
                    "stopped": one.stopped,
                }
            )
    return found


def _suspicion(alarm: Alarm, episodes: Sequence[Episode]) -> Floats:
    """(B,) higher is more suspicious."""
    if alarm.figure == rules.KL:
        return np.array([float((one.logps - one.reference_logps).sum()) for one in episodes])
    if alarm.figure == rules.REPETITION:
        return np.array([repeated_ngrams(one.tokens.tolist()) for one in episodes])
    if alarm.figure == rules.LENGTH:
        longer = 1.0 if alarm.now > alarm.before else -1.0
        return longer * np.array([float(len(one.tokens)) for one in episodes])
    name = alarm.figure.removeprefix(rules.WATCHED)
    rewards = np.array([one.reward for one in episodes])
    watched = np.array([one.watch[name] for one in episodes])
    return _standardised(rewards) - _standardised(watched)


def _standardised(values: Floats) -> Floats:
    result: Floats = (values - values.mean()) / (values.std() or 1.0)
    return result


def warning(alarm: Alarm, said: str, samples: Sequence[Mapping[str, Any]]) -> str:
    """What is said when the watch fires: ``said`` of the numbers, two of the ``samples``, and what helps."""
    lines = [f"rollout {alarm.rollout}: the reward may be hacked since rollout {alarm.since}: {said}."]
    for sample in samples[:2]:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in sample["watch"].items())
        text = " ".join(sample["answer"].split())
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
        lines.append(f"  reward {sample['reward']:.4g}{', ' + scores if scores else ''}: {shown!r}")
    return "\n".join([*lines, _WHAT_HELPS])
