"""From measured answers to advantages, and to the metrics of a rollout that are logged.

Everything here is computed over the answers of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hf_align.losses import importance_weights, kl_estimate, masked_mean, overlong_penalty
from hf_align.rewards.scaling import (
    RunningMoments,
    Scores,
    clip_scores,
    normalize_scores,
    penalize_missing_eos,
)
from hf_align.rl.algorithms.base import ScoredRollout
from hf_align.rl.algorithms.options import RlOptionsConfig
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.episodes import Episode, answer_mask, padded
from hf_align.rl.vllm.recipe import VllmConfig
from hf_align.rl.watch.rules import DEVIATION, WATCHED
from hf_align.statistics.repetition import repeated_ngrams


@dataclass(frozen=True)
class Experience:
    """``columns`` (B, T) by name: what the update is given of each token, 0 behind each answer. ``kl``: mean
    over the answers of the divergence from the reference summed over their tokens, in nats, by the estimator
    of the recipe. ``metrics``: what is logged of the rollout. ``shown`` (B, T) by name: what a replay shows
    of each token; behind an answer it means nothing."""

    columns: dict[str, torch.Tensor]
    kl: float
    metrics: dict[str, float]
    shown: dict[str, torch.Tensor]


def shaped_rewards(
    episodes: Sequence[Episode], options: RlOptionsConfig, *, missing_eos_penalty: float | None
) -> Scores:
    """(B,) the rewards less the penalties for answers that are cut off or too long."""
    rewards = np.array([episode.reward for episode in episodes])
    stopped = [episode.stopped for episode in episodes]
    scores = penalize_missing_eos(rewards, stopped, missing_eos_penalty)
    if options.soft_punish_cache is not None:
        lengths = torch.tensor([len(episode.tokens) for episode in episodes])
        penalty = overlong_penalty(
            lengths, max_length=options.max_new_tokens, cache=options.soft_punish_cache
        )
        scores = scores + penalty.double().numpy()
    return scores


def final_scores(
    episodes: Sequence[Episode],
    options: RlOptionsConfig,
    moments: RunningMoments,
    *,
    missing_eos_penalty: float | None,
) -> tuple[Scores, RunningMoments]:
    """(B,) the scores that are learned from, and the moments with those of this rollout.

    In this order: penalties, normalisation by the moments (this rollout included), clipping.
    """
    scores = shaped_rewards(episodes, options, missing_eos_penalty=missing_eos_penalty)
    if options.normalize_scores:
        moments = moments.updated(scores)
        scores = normalize_scores(scores, moments)
    return clip_scores(scores, options.score_clip), moments


def make_experience(
    episodes: Sequence[Episode],
    scores: Scores,
    options: RlOptionsConfig,
    *,
    kl_coef: float,
    vllm: VllmConfig | None = None,
) -> Experience:
    """Advantages of every sampled token, by the algorithm of ``options``. ``episodes`` (B) with their
    ``scores`` (B,). ``vllm``: how another program sampled them, which may give tokens weights."""
    mask = answer_mask(episodes)
    logps = padded([episode.logps for episode in episodes])
    reference = padded([episode.reference_logps for episode in episodes])
    kl = kl_estimate(logps, reference, kind=options.kl_estimator)
    rollout = ScoredRollout(
        prompts=torch.tensor([episode.prompt for episode in episodes]),
        scores=torch.from_numpy(scores).float(),
        stopped=torch.tensor([episode.stopped for episode in episodes]),
        mask=mask,
        logps=logps,
        reference_logps=reference,
        kl=kl,
        values=padded([episode.values for episode in episodes]),
        kl_coef=kl_coef,
    )
    found = ALGORITHMS[options.algorithm].advantages(rollout, options)
    summed_kl = torch.where(mask, kl, 0.0).sum(dim=1).mean().item()
    entropies = padded([episode.entropies for episode in episodes])
    metrics = {
        **reward_metrics(episodes),
        "score": float(scores.mean()),
        "score_std": float(scores.std()),
        "kl": summed_kl,
        "token_kl": masked_mean(kl, mask).item(),
        "kl_coef": kl_coef,
        "kl_penalty": kl_coef * summed_kl,
        "objective": float(scores.mean()) - kl_coef * summed_kl,
        "entropy": masked_mean(entropies, mask).item(),
        **found.metrics,
        **answer_metrics(episodes),
        "sampling_logp_difference": sampling_difference(episodes)[0],
    }
    columns = {"old_logps": logps, "reference_logps": reference, **found.columns}
    if vllm is not None and vllm.use_vllm:
        weights, of_server = server_metrics(episodes, vllm)
        metrics |= of_server
        if weights is not None:
            columns["weights"] = weights
    return Experience(
        columns, summed_kl, metrics, {"kl": kl, **found.shown, "advantage": columns["advantages"]}
    )


def server_metrics(
    episodes: Sequence[Episode], vllm: VllmConfig
) -> tuple[torch.Tensor | None, dict[str, float]]:
    """(importance weights (B, T), or None without correction; what is logged of the server's part).

    ``sampling_logp_difference_max``: the largest difference at a token, in nats. With correction
    ``importance_weight`` (mean over tokens) and ``importance_limited``, the share that the limit changed.
    """
    metrics = {"sampling_logp_difference_max": sampling_difference(episodes)[1]}
    if not vllm.vllm_importance_sampling_correction:
        return None, metrics
    mask = answer_mask(episodes)
    weights, limited = importance_weights(
        padded([episode.logps for episode in episodes]),
        padded([episode.sampled_logps for episode in episodes]),
        mask,
        mode=vllm.vllm_importance_sampling_mode,
        clip_max=vllm.vllm_importance_sampling_clip_max,
    )
    metrics["importance_weight"] = masked_mean(weights, mask).item()
    metrics["importance_limited"] = masked_mean(limited.float(), mask).item()
    return weights, metrics


def reward_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """``reward/total``, its deviation, and ``reward/NAME`` for each part, averaged over the answers.

    ``watch/NAME`` and ``watch_std/NAME`` are mean and deviation of a reward that is not trained on.
    """
    totals = np.array([episode.reward for episode in episodes])
    parts = {
        f"reward/{name}": float(np.mean([episode.parts[name] for episode in episodes]))
        for name in episodes[0].parts
    }
    watched: dict[str, float] = {}
    for name in episodes[0].watch:
        values = np.array([episode.watch[name] for episode in episodes])
        watched |= {f"{WATCHED}{name}": float(values.mean()), f"{DEVIATION}{name}": float(values.std())}
    return {"reward/total": float(totals.mean()), "reward_std": float(totals.std()), **parts, **watched}


def answer_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean length in tokens, the share of answers that ended by themselves, and how much they repeat
    themselves (mean share of repeated 4-grams of an answer)."""
    return {
        "response_length": float(np.mean([len(episode.tokens) for episode in episodes])),
        "eos_rate": float(np.mean([episode.stopped for episode in episodes])),
        "repetition": float(np.mean([repeated_ngrams(episode.tokens.tolist()) for episode in episodes])),
    }


def sampling_difference(episodes: Sequence[Episode]) -> tuple[float, float]:
    """Mean and largest difference in nats between log-probabilities taken while sampling and afterwards."""
    found = np.concatenate([np.abs(one.sampled_logps - one.logps) for one in episodes])
    return float(found.mean()), float(found.max())


def reference_difference(episodes: Sequence[Episode]) -> tuple[float, float]:
    """Mean and largest difference in nats between policy and reference at a token."""
    found = np.concatenate([np.abs(one.logps - one.reference_logps) for one in episodes])
    return float(found.mean()), float(found.max())
