"""What must hold by theory when a run and when an update begins; anything else is a fault that is named.

Before training the policy is its own reference, so that their divergence is 0. Before an update moves the
policy it is the one that the old log-probabilities are from, so that every ratio is 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from hf_align.errors import UserError
from hf_align.modeling.precision import Precision
from hf_align.rl.advantages import reference_difference, sampling_difference
from hf_align.rl.episodes import Episode

logger = logging.getLogger(__name__)

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 6e-2, "fp16": 2e-2}
"""In nats per token, and for ratios, whose logarithms are such differences.

Where products round by the shape of the batch, as bf16 on a CPU with AMX, one answer in two batches differs
by 0.033 to 0.037 nats a token (SmolLM2-135M, temperature 0.7, plain transformers), as much as from fp32.
"""

DIVERGENCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}
"""For approx_kl, which grows with the square of such differences (0.002 on such a CPU)."""

CLIPPED: dict[Precision, float] = {"fp32": 0.0, "bf16": 0.05, "fp16": 0.01}
"""Share of tokens whose ratio may lie outside the clip range by rounding alone (0.028 on such a CPU)."""

SAMPLING_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.1}
"""Sampling goes token by token through a cache, which rounds otherwise than one pass over the whole."""


def check_reference(episodes: Sequence[Episode], precision: Precision) -> dict[str, float]:
    """What was found, for run.json. Raises UserError where policy and reference differ before training."""
    mean, largest = reference_difference(episodes)
    if mean <= TOLERANCE[precision]:
        return {"mean": mean, "largest": largest, "allowed": TOLERANCE[precision]}
    raise UserError(
        "the reference is not the model that training starts from: before the first update the "
        f"log-probabilities of {len(episodes)} sampled answers differ by {mean:.2g} nats per token in the "
        f"mean (largest: {largest:.2g}), at most {TOLERANCE[precision]:.2g} is rounding in {precision}. "
        "Usual causes: an adapter that changes the model before it is trained, dropout or other noise in the "
        "forward pass, arithmetic that depends on what else is in the batch (compare with precision: fp32 "
        "and packing: false)."
    )


def check_first_pass(metrics: Mapping[str, float], precision: Precision) -> None:
    """Raise UserError where the first pass of an update is not by the policy that the answers were measured
    with: ``metrics`` are means over its tokens."""
    found = {name: metrics[name] for name in ("ratio_deviation", "approx_kl", "clip_fraction")}
    allowed = {
        "ratio_deviation": TOLERANCE[precision],
        "approx_kl": DIVERGENCE[precision],
        "clip_fraction": CLIPPED[precision],
    }
    wrong = [name for name, value in found.items() if not abs(value) <= allowed[name]]
    if not wrong:
        return
    listed = ", ".join(f"{name} {found[name]:.3g} (at most {allowed[name]:g})" for name in wrong)
    raise UserError(
        "the policy that is updated is not the one that its log-probabilities were taken from: before the "
        f"first step of an update every ratio must be 1, and {listed} is more than rounding in {precision}. "
        "Usual causes: noise in the forward pass that differs between the two (dropout of the model's own "
        "code), arithmetic that depends on what else is in the batch (compare with precision: fp32 and "
        "packing: false)."
    )


def check_finite(metrics: Mapping[str, float], rollout: int) -> None:
    """Raise UserError where a loss or a gradient is no finite number; nothing was updated with it then."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        listed = ", ".join(f"{name} {metrics[name]}" for name in bad)
        raise UserError(
            f"rollout {rollout}: {listed}. The policy has left the range of its numbers; go on from an "
            "earlier checkpoint with a lower learning_rate, a kl_stop or a higher kl_coef."
        )


class SamplingCheck:
    """Warns, once a run, where log-probabilities from sampling and from one pass differ beyond rounding.

    ``server``: another program samples."""

    def __init__(self, precision: Precision, *, server: bool = False) -> None:
        self.source = (
            "a server with another precision, or one that does not have the weights of the policy"
            if server
            else "a slightly other policy than the one that is updated"
        )
        self.allowed = SAMPLING_TOLERANCE[precision]
        self.precision = precision
        self._said = False

    def __call__(self, episodes: Sequence[Episode]) -> None:
        mean, largest = sampling_difference(episodes)
        if mean <= self.allowed or self._said:
            return
        self._said = True
        logger.warning(
            "log-probabilities taken while sampling differ from those of one pass over the answers by %.2g "
            "nats per token in the mean (largest: %.2g; at most %.2g is rounding in %s). Those of the pass "
            "are used; the answers come from %s",
            mean,
            largest,
            self.allowed,
            self.precision,
            self.source,
        )
