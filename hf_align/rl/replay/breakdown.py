"""Where the numbers of a rollout came from: a breakdown of each answer, and of each of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.rewards.models import part_names
from hf_align.rewards.scaling import RunningMoments
from hf_align.rl.advantages import shaped_rewards

if TYPE_CHECKING:
    from hf_align.rl.replay.run import Replayed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AnswerBreakdown:
    """One sampled answer of L tokens. ``number`` counts the answers of the rollout from 1, ``prompt`` its
    prompts; ``source``: where that stands in the data.

    ``parts``: each reward with its weight, whose products add up to ``reward``; ``watch``: rewards that
    nothing was learned from. ``penalized``: the reward after penalties; ``score``: after normalisation
    by ``moments`` and clipping; all that follow are in its unit. ``kl``: nats, summed over the tokens;
    ``kl_penalty``: what it cost. ``advantage``: mean over the tokens, as trained with.

    ``tokens``: by name (L,) each: ``kl``, ``reward``, ``value``, ``return``, ``raw advantage``,
    ``advantage``, ``logp``, ``reference logp``, ``entropy``; where the update was computed again also
    ``ratio`` (when last trained on), ``clipped`` (passes in which it was), and ``loss``, ``policy loss`` and
    ``value loss``: the token's part of those that were logged. ``passes`` (L,): how often it was trained on.
    """

    number: int
    prompt: int
    source: str
    prompt_ids: tuple[int, ...]
    ids: npt.NDArray[np.int32]
    stopped: bool
    parts: dict[str, tuple[float, float]]
    watch: dict[str, float]
    reward: float
    penalized: float
    moments: RunningMoments
    score: float
    kl: float
    kl_penalty: float
    tokens: dict[str, Floats]
    passes: int

    @property
    def advantage(self) -> float:
        return float(self.tokens["advantage"].mean())

    @property
    def loss(self) -> float | None:
        """The answer's part of the total loss, where the update was computed again."""
        return self._sum("loss")

    @property
    def policy_loss(self) -> float | None:
        return self._sum("policy loss")

    @property
    def value_loss(self) -> float | None:
        return self._sum("value loss")

    @property
    def kl_loss(self) -> float | None:
        return self._sum("kl loss")

    @property
    def clipped(self) -> float | None:
        """The share of its tokens and passes whose ratio lay outside the clip range."""
        if "clipped" not in self.tokens or not self.passes:
            return None
        return float(self.tokens["clipped"].mean()) / self.passes

    def _sum(self, name: str) -> float | None:
        return float(self.tokens[name].sum()) if name in self.tokens else None


def breakdowns(replayed: Replayed) -> list[AnswerBreakdown]:
    """A breakdown of each answer, in the order of the rollout."""
    recording, config = replayed.recording, replayed.config
    experience, episodes = replayed.experience, recording.episodes
    weights = dict(zip(part_names(config.rewards), config.rewards.weights, strict=True))
    penalized = shaped_rewards(
        episodes, config.options, missing_eos_penalty=config.rewards.missing_eos_penalty
    )
    moments = recording.before.moments.updated(penalized)
    found, start = [], 0
    for i, episode in enumerate(episodes):
        length = len(episode.tokens)
        tokens = {name: table[i, :length].double().numpy() for name, table in experience.shown.items()}
        tokens |= {
            "logp": episode.logps.astype(np.float64),
            "reference logp": episode.reference_logps.astype(np.float64),
            "entropy": episode.entropies.astype(np.float64),
        }
        passes = 0
        if replayed.again is not None:
            trace, here = replayed.again.trace, slice(start, start + length)
            tokens |= {"ratio": trace.ratios[here], "clipped": trace.clipped[here].astype(np.float64)}
            tokens |= {name.replace("_", " "): share[here] for name, share in trace.shares.items()}
            passes = int(trace.passes[here].max())
        start += length
        prompt = recording.prompts[episode.prompt]
        kl = float(tokens["kl"].sum())
        found.append(
            AnswerBreakdown(
                number=i + 1,
                prompt=episode.prompt + 1,
                source=prompt.example.source,
                prompt_ids=prompt.ids,
                ids=episode.tokens,
                stopped=episode.stopped,
                parts={name: (value, weights.get(name, 1.0)) for name, value in episode.parts.items()},
                watch=dict(episode.watch),
                reward=episode.reward,
                penalized=float(penalized[i]),
                moments=moments,
                score=float(recording.scores[i]),
                kl=kl,
                kl_penalty=recording.before.kl_coef * kl,
                tokens=tokens,
                passes=passes,
            )
        )
    return found


def outstanding(found: list[AnswerBreakdown]) -> dict[str, AnswerBreakdown]:
    """The answers to look at first, by what makes each of them stand out."""
    chosen = {
        "highest KL": max(found, key=lambda one: one.kl),
        "lowest advantage": min(found, key=lambda one: one.advantage),
        "highest advantage": max(found, key=lambda one: one.advantage),
        "lowest score": min(found, key=lambda one: one.score),
        "highest score": max(found, key=lambda one: one.score),
    }
    if found[0].loss is not None:
        chosen["largest part of the loss"] = max(found, key=lambda one: abs(one.loss or 0.0))
        most = max(found, key=lambda one: one.clipped or 0.0)
        chosen |= {"most clipped": most} if most.clipped else {}
    return chosen
