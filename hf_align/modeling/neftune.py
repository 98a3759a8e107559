"""NEFTune: uniform noise on the embeddings in training (arXiv 2310.05914), exact for packed rows.

The noise of a sequence is U(-1, 1) * alpha / sqrt(L * d) with L the length of that sequence. transformers
takes the width of the batch for L, padding included, which would make the noise of a packed or padded
sequence smaller than that of the same sequence alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel


def install_neftune(model: PreTrainedModel, alpha: float) -> None:
    """Add noise of strength ``alpha`` to the output of the input embedding while ``model`` trains."""
    lengths: list[torch.Tensor] = []

    def note_lengths(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lengths[:] = [_lengths(args, kwargs)]

    def add_noise(embedding: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        if not embedding.training or not lengths:
            return output
        magnitude = alpha / (lengths[0].to(output.device) * output.shape[-1]).sqrt()
        noise = torch.empty_like(output).uniform_(-1.0, 1.0)
        return output + noise * magnitude.unsqueeze(-1).to(output.dtype)

    model.base_model.register_forward_pre_hook(note_lengths, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(add_noise)


def _lengths(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """For every position the length of its sequence, broadcastable to (B, T)."""
    if (segments := kwargs.get("segments")) is not None:
        lengths = segments.cu_seqlens.diff()
        # The filler behind the segments gets noise that nothing sees; its length must not be 0.
        of_position = functional.pad(lengths.repeat_interleave(lengths), (0, segments.filler), value=1)
        return of_position.unsqueeze(0).float()
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        return mask.sum(dim=1, keepdim=True).clamp(min=1).float()
    input_ids = args[0] if args else kwargs["input_ids"]
    return torch.tensor([[float(input_ids.shape[1])]])
