"""The objectives of encoder-decoder models: the decoder writes what was hidden (T5) or the whole text
(BART)."""

from __future__ import annotations

import torch

from hf_align.training.objectives.target_sums import summed_targets
from hf_align.types import LossOutput, PretrainingBatch


def seq2seq_lm(model: torch.nn.Module, batch: PretrainingBatch) -> LossOutput:
    """Summed negative log-likelihood of the decoder's targets; see :func:`summed_targets`.

    ``model``: an encoder-decoder language model with a selecting head installed, wrapped or not.
    """
    return summed_targets(model(**batch.inputs), batch)
