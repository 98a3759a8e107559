"""SpanBERT: the masked-language-model loss plus the span-boundary loss of the same hidden tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from hf_align.losses import negative_log_likelihood
from hf_align.types import LossOutput


def span_boundary_lm(model: Callable[..., Any], batch: Mapping[str, torch.Tensor]) -> LossOutput:
    """Summed -log p(x_i | MLM head) - log p(x_i | boundary head) over the hidden tokens, in nats.

    ``model``: a masked language model with the span-boundary head installed, wrapped or not. ``batch``: what
    ``SpanMaskingCollator`` returns. ``metrics``: ``mlm_loss`` and ``boundary_loss``, the two sums, and
    ``correct`` and ``boundary_correct``, how many tokens were each head's first choice. (Joshi et al. 2020,
    equation in 3.2: the two losses have equal weight.)
    """
    output = model(**batch)
    masked = negative_log_likelihood(output["logps"]).sum()
    boundary = negative_log_likelihood(output["boundary_logps"]).sum()
    return LossOutput(
        loss_sum=masked + boundary,
        count=len(output["logps"]),
        metrics={
            "mlm_loss": masked.detach(),
            "boundary_loss": boundary.detach(),
            "correct": output["correct"].sum(),
            "boundary_correct": output["boundary_correct"].sum(),
        },
    )
