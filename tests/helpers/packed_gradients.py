"""Log-probabilities and gradients of rows, packed or padded, against transformers one row at a time."""

from __future__ import annotations

import torch
from helpers.tiny_models import random_rows
from transformers import PreTrainedModel

from hf_align.modeling.inputs import model_inputs
from hf_align.types import Batch, TokenizedRow

ROWS = random_rows([9, 1, 17, 4, 30, 2])


def oracle(model: PreTrainedModel, rows: list[TokenizedRow]) -> torch.Tensor:
    """Log-probabilities by the model's untouched forward, one sequence at a time, full logits."""
    pieces = []
    for row in rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        logits = model(input_ids=ids[None]).logits[0]
        everything = torch.log_softmax(logits.float(), dim=-1)
        pieces.append(
            torch.stack(
                [everything[t - 1, ids[t]] for t in range(1, len(ids)) if row.target_mask[t]]
                or [torch.zeros(0)]
            ).flatten()
        )
    return torch.cat(pieces)


def gradients(model: PreTrainedModel, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a weighted sum, so that swapped log-probabilities would show."""
    model.zero_grad()
    (logps * torch.linspace(0.5, 1.5, len(logps))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: tuple, theirs: tuple) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        scale = gradient.abs().max().clamp(min=1e-3)
        error = (ours[1][name] - gradient).abs().max() / scale
        assert error < 2e-5, f"{name}: {error:.1e}"


def run(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logps = model(**model_inputs(batch)).logps
    assert len(logps) == batch.target_tokens
    return logps.detach(), gradients(model, logps)


def rows_with_targets() -> list[TokenizedRow]:
    return [row for row in ROWS if row.target_tokens]
