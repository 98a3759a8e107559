"""The metrics of pre-training: what an evaluation comes to, over all targets and for each data set.

Beside the loss stands the unigram entropy of the very targets it was taken on: the lowest loss that a model
without any context could have, one that knew how often each token occurs among them. What lies below it was
learned from the context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.losses import perplexity
from hf_align.pretraining.data import EvalSource

TEXT_OBJECTIVES = ("causal", "prefix_lm", "decoder_prefix_lm")
"""Those whose targets are the text itself, so that bits a character mean something."""


def unigram_entropy(ids: npt.NDArray[Any]) -> float:
    """Entropy in nats of the distribution of ``ids`` (N,) over the vocabulary, as counted in them."""
    counts = np.unique(ids, return_counts=True)[1].astype(np.float64)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def evaluation_metrics(
    loss: float, units: int, sums: Mapping[str, float], details: Mapping[str, npt.NDArray[Any]]
) -> dict[str, float]:
    """The metrics of an evaluation, in nats per target; ``loss`` alone holds every term of the objective."""
    token_loss = sums["token_loss"] / units
    metrics = {"loss": token_loss, "perplexity": perplexity(token_loss)}
    metrics["token_accuracy"] = sums["correct"] / units
    metrics["unigram_entropy"] = unigram_entropy(details["target"])
    if "pairs" in sums:
        pairs = max(1.0, sums["pairs"])
        metrics |= {"pair_loss": sums["pair_loss"] / pairs, "pair_accuracy": sums["pairs_correct"] / pairs}
        metrics |= {"loss": token_loss + metrics["pair_loss"], "token_loss": token_loss, "pairs": pairs}
    if "boundary_loss" in sums:
        metrics["boundary_loss"] = sums["boundary_loss"] / units
        metrics["boundary_accuracy"] = sums["boundary_correct"] / units
        metrics |= {"loss": loss, "token_loss": token_loss}
    return {**metrics, "target_tokens": units}


def training_metrics(sums: Mapping[str, float], units: int) -> dict[str, float]:
    """The metrics of some training steps beside their loss."""
    units = max(1, units)
    metrics = {"token_accuracy": sums["correct"] / units}
    if "pairs" in sums:
        pairs = max(1.0, sums["pairs"])
        metrics |= {"pair_loss": sums["pair_loss"] / pairs, "pair_accuracy": sums["pairs_correct"] / pairs}
    if "pairs" in sums or "boundary_loss" in sums:
        metrics["token_loss"] = sums["token_loss"] / units
    return metrics


def metrics_by_source(
    details: Mapping[str, npt.NDArray[Any]], sources: Sequence[EvalSource], *, text: bool
) -> list[dict[str, Any]]:
    """For each held-out data set its loss in nats per target, and what goes with it.

    ``text``: the targets are the text, so that ``bits_per_character`` is given: the loss in bits times the
    tokens a character of the set's documents. Special tokens that the blocks add count as tokens, not as
    characters.
    """
    found = []
    for number, source in enumerate(sources):
        own = details["source"] == number
        if not own.any():
            continue
        loss = float(details["token_loss"][own].mean(dtype=np.float64))
        entry: dict[str, Any] = {
            "name": source.name,
            "target_tokens": int(own.sum()),
            "loss": loss,
            "perplexity": perplexity(loss),
            "token_accuracy": float(details["correct"][own].mean(dtype=np.float64)),
            "unigram_entropy": unigram_entropy(details["target"][own]),
        }
        if text and source.characters_per_token > 0:
            entry["bits_per_character"] = loss / math.log(2) / source.characters_per_token
        found.append(entry)
    return found
