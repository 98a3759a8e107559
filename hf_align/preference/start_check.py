"""Before training, a policy is its own reference, and a pairwise loss then has the value that theory gives.

ln 2 for DPO, 1 for hinge, (1 / (2 beta))^2 for IPO, whatever the data. Any other value means that the two are
not the same model, and that the run would be pulled towards something else than its starting point: a
reference of other weights, log-probabilities of other tokens, noise in one of the two. What this leaves out:
losses without such a value; the log then says that nothing was checked, and why.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from hf_align.errors import UserError
from hf_align.modeling.precision import Precision
from hf_align.preference.record import StartCheckRecord
from hf_align.training.resume import parts_that_draw_random_numbers

logger = logging.getLogger(__name__)

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}
"""By how much the loss may be off, relative to the larger of 1 and the value that theory gives."""


def check_start(
    found: float, expected: float, *, precision: Precision, where: str, what: str = "pairwise loss"
) -> None:
    """Raise UserError where the mean loss of a policy that is its reference is not ``expected``.

    ``where``: what the loss was measured on; ``what``: which loss that is, for the message.
    """
    allowed = TOLERANCE[precision] * max(1.0, abs(expected))
    if abs(found - expected) <= allowed:
        return
    off = f"off by {abs(found - expected):.2g}" if math.isfinite(found) else "not a finite number"
    raise UserError(
        f"the reference is not the model that training starts from: on {where} the mean {what} is "
        f"{found:.6g}, where model and reference are the same it must be {expected:.6g} ({off}, at most "
        f"{allowed:.2g} is rounding in {precision}). Usual causes: the reference's log-probabilities belong "
        "to other weights, another chat template or other rows (set reference_cache to false to have them "
        "computed anew); dropout or other noise in the forward pass (keep disable_dropout: true); an adapter "
        "that changes the model before it is trained; arithmetic that depends on what else is in the batch "
        "(compare with precision: fp32 and packing: false). If another reference is meant, name it with "
        "ref_model_name_or_path."
    )


def reasons_against(
    *,
    losses: Sequence[str],
    constant: float | None,
    reference_free: bool,
    ref_model: str | None,
    weighted: bool = False,
) -> list[str]:
    """Why the losses of a recipe have no value that is known beforehand; empty where they have one.

    ``constant``: what ``objectives.preference.loss_at_start`` gives for them.
    """
    reasons = []
    if reference_free:
        reasons.append("the losses are reference-free")
    if ref_model is not None:
        reasons.append(f"the reference is another model, {ref_model}")
    if weighted:
        reasons.append("pairs are weighed by their likelihood (use_weighting)")
    elif constant is None:
        reasons.append(f"loss: {', '.join(losses)} has no value that theory gives beforehand")
    return reasons


def noise_of(model: torch.nn.Module) -> list[str]:
    """What makes a forward pass of ``model`` in training differ from that of its reference."""
    # New adapter weights add nothing to the output, with or without dropout before them.
    return [part for part in parts_that_draw_random_numbers(model) if part != "lora_dropout"]


@dataclass
class StartCheck:
    """The check of one run. ``constant``: the loss that theory gives, or None with ``reasons`` why not.

    ``noise``: what makes a forward pass in training random; it spoils the check of the first step, not that
    of an evaluation. ``saved``: called with ``record``, what run.json says, whenever it changes. ``metric``:
    the name of the loss among the metrics.
    """

    constant: float | None
    precision: Precision
    reasons: Sequence[str] = ()
    noise: Sequence[str] = ()
    saved: Callable[[StartCheckRecord], None] = lambda record: None
    metric: str = "pairwise_loss"
    record: StartCheckRecord = field(default_factory=StartCheckRecord, init=False)

    def __post_init__(self) -> None:
        if self.reasons:
            self.constant = None
            self.record = StartCheckRecord(checked=False, why="; ".join(self.reasons))
            logger.info("the loss at the start is not compared with theory: %s", self.record.why)
        else:
            self.record = StartCheckRecord(checked=False, expected=self.constant, found={})
        self.saved(self.record)

    def evaluation(self, metrics: Mapping[str, float]) -> None:
        """Check an evaluation before training; ``metrics`` with the prefix ``eval_``."""
        if self.constant is not None:
            self._check("held-out rows", metrics[f"eval_{self.metric}"], "the held-out rows before training")

    def first_step(self, metrics: Mapping[str, float]) -> None:
        """Check the mean metrics of the first step, computed before the optimizer moved anything."""
        if self.constant is None:
            return
        if self.noise:
            why = f"{', '.join(self.noise)} in the forward pass"
            logger.info("the loss of the first step is not compared with theory: %s", why)
            self.record.first_step = f"not checked: {why}"
            self.saved(self.record)
            return
        self._check("first step", metrics[self.metric], "the rows of the first step")

    def _check(self, name: str, found: float, where: str) -> None:
        assert self.constant is not None
        self.record.found[name] = found
        self.record.checked = True
        # Before it is judged: a run that stops here leaves the metric behind.
        self.saved(self.record)
        what = self.metric.replace("_", " ")
        check_start(found, self.constant, precision=self.precision, where=where, what=what)
        logger.info("%s: %s %.6g, as theory gives (%.6g)", name, what, found, self.constant)
