"""Log-probabilities of given tokens under a model, for whatever an evaluation asks: texts, choices.

Rows go through the engine that training uses: packed where the model can be packed, with shared prompts
computed once where it can share them, padded otherwise. How rows are put together changes speed and memory;
in float32 it changes the numbers by rounding alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.batching import split_by_tokens
from hf_align.data.comparison_batches import collate_comparisons
from hf_align.data.packing import pack_rows, pad_rows, to_device
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.precision import Precision, compute_dtype
from hf_align.modeling.target_head import install_target_head
from hf_align.types import Batch, ComparisonRow, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Logps = npt.NDArray[np.float32]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Scorer:
    """A causal language model that is ready to score; made by :func:`make_scorer`.

    ``packed``: sequences lie side by side in a row; ``shared``: branches share their prompt there.
    ``max_tokens``: tokens computed at once.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    precision: Precision
    packed: bool
    shared: bool
    max_tokens: int = 4096

    @torch.no_grad()
    def rows(self, rows: Sequence[TokenizedRow], progress: Progress | None = None) -> list[Logps]:
        """For each row the log-probabilities of its targets, (targets,) float32 in nats.

        ``progress`` is called with the number of rows that a micro-batch finished.
        """
        found: dict[int, Logps] = {}
        for part in split_by_tokens(rows, self.max_tokens, padded=not self.packed):
            batch = pack_rows(part) if self.packed else pad_rows(part, self._pad)
            counts = [row.target_tokens for row in part]
            for row, logps in zip(part, _split(self._logps(batch), counts), strict=True):
                found[id(row)] = logps
            if progress is not None:
                progress(len(part))
        return [found[id(row)] for row in rows]

    @torch.no_grad()
    def branches(
        self, trees: Sequence[ComparisonRow], progress: Progress | None = None
    ) -> list[tuple[Logps, ...]]:
        """For each tree the log-probabilities of the targets of each of its branches, as in :meth:`rows`.

        ``progress`` is called with the number of branches that a micro-batch finished.
        """
        found: dict[int, tuple[Logps, ...]] = {}
        for part in split_by_tokens(trees, self.max_tokens, padded=not self.packed, shared=self.shared):
            batch = collate_comparisons(
                part, packed=self.packed, share_prefix=self.shared, pad_token_id=self._pad
            )
            counts = [branch.target_tokens for tree in part for branch in tree.branches]
            pieces = iter(_split(self._logps(batch.inputs), counts))
            for tree in part:
                found[id(tree)] = tuple(next(pieces) for _ in tree.branches)
            if progress is not None:
                progress(len(counts))
        return [found[id(tree)] for tree in trees]

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def _logps(self, batch: Batch) -> Logps:
        device = next(self.model.parameters()).device
        dtype = compute_dtype(self.precision)
        exact = dtype == torch.float32
        with contextlib.nullcontext() if exact else torch.autocast(device.type, dtype):
            output = self.model(**model_inputs(to_device(batch, device)))
        logps: Logps = output["logps"].float().cpu().numpy()
        return logps


def make_scorer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    precision: Precision,
    packing: bool = True,
    max_tokens: int = 4096,
) -> Scorer:
    """A scorer around a causal language model or an adapter on one, in evaluation mode.

    Its ``forward`` learns ``shift_labels`` by this. With ``packing`` the model is packed if it passes the
    probe.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    packed = packing and enable_segment_attention(inner)
    shared = packed and shares_prefixes(inner)
    install_target_head(inner)
    return Scorer(model.eval(), tokenizer, precision, packed, shared, max_tokens)


def _split(logps: Logps, counts: Sequence[int]) -> list[Logps]:
    return np.split(logps, np.cumsum(counts)[:-1]) if counts else []
