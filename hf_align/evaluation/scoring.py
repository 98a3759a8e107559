"""Log-probabilities of given tokens under a model, for whatever an evaluation asks: texts, choices.

Rows go through the engine that training uses: packed where the model can be packed, with shared prompts
computed once where it can share them, padded otherwise. How rows are put together changes speed and memory;
in float32 it changes the numbers by rounding alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.batching import split_by_tokens
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import make_segments, pack_rows, pad_rows, to_device
from hf_align.evaluation.tree_merging import merge_trees
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.attention.padding_probe import settle_padding
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.lengths_apart import Apart, lengths_apart
from hf_align.modeling.precision import Precision, compute_dtype
from hf_align.types import Batch, ComparisonRow, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Logps = npt.NDArray[np.float32]
Progress = Callable[[int], None]


class Scores(NamedTuple):
    """Of the N targets of one sequence: ``logps`` (N,) float32 in nats, and ``greedy`` (N,) bool, whether no
    other token was more probable."""

    logps: Logps
    greedy: npt.NDArray[np.bool_]


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

    @property
    def _apart(self) -> Apart | None:
        return lengths_apart(self.model, padded=not self.packed)

    @torch.no_grad()
    def rows(self, rows: Sequence[TokenizedRow], progress: Progress | None = None) -> list[Logps]:
        """For each row the log-probabilities of its targets, (targets,) float32 in nats.

        ``progress`` is called with the number of rows that a micro-batch finished.
        """
        found: dict[int, Logps] = {}
        for part in split_by_tokens(rows, self.max_tokens, padded=not self.packed, apart=self._apart):
            batch = pack_rows(part) if self.packed else pad_rows(part, self._pad)
            counts = [row.target_tokens for row in part]
            for row, scores in zip(part, _split(self._scores(batch), counts), strict=True):
                found[id(row)] = scores.logps
            if progress is not None:
                progress(len(part))
        return [found[id(row)] for row in rows]

    def branches(
        self, trees: Sequence[ComparisonRow], progress: Progress | None = None
    ) -> list[tuple[Logps, ...]]:
        """For each tree the log-probabilities of the targets of each of its branches, as in :meth:`rows`.

        ``progress`` is called with the number of branches that a micro-batch finished.
        """
        return [tuple(each.logps for each in parts) for parts in self.trees(trees, progress)]

    def trees(
        self, trees: Sequence[ComparisonRow], progress: Progress | None = None, *, merge: bool = False
    ) -> list[tuple[Scores, ...]]:
        """As :meth:`branches`, with which targets were the likeliest. ``merge``: what neighbouring trees
        begin with is computed once for several, where that saves tokens."""
        merged = [(tree, [number]) for number, tree in enumerate(trees)]
        if merge and self.shared:
            merged = merge_trees(trees, self.max_tokens)
        found: dict[int, tuple[Scores, ...]] = {}
        scored = self._trees([tree for tree, _ in merged], progress)
        for (_, owners), parts in zip(merged, scored, strict=True):
            waiting = iter(parts)
            for owner in owners:
                found[owner] = tuple(next(waiting) for _ in trees[owner].branches)
        return [found[number] for number in range(len(trees))]

    @torch.no_grad()
    def with_last_unread(self, row: TokenizedRow) -> Scores:
        """The scores of a row that may have one token more than the model's context: its last token is
        predicted, and not read."""
        if self.packed:
            batch = pack_rows([row])
            batch = replace(batch, segments=make_segments([len(row) - 1]))
        else:
            batch = pad_rows([row], self._pad)
        cut = ("input_ids", "position_ids", "shift_labels", "attention_mask")
        kept = {name: getattr(batch, name) for name in cut}
        kept = {name: value[:, :-1] for name, value in kept.items() if value is not None}
        return self._scores(replace(batch, **kept, tokens=len(row) - 1))

    @torch.no_grad()
    def _trees(self, trees: Sequence[ComparisonRow], progress: Progress | None) -> list[tuple[Scores, ...]]:
        found: dict[int, tuple[Scores, ...]] = {}
        layout = {"padded": not self.packed, "shared": self.shared}
        for part in split_by_tokens(trees, self.max_tokens, **layout, apart=self._apart):
            batch = collate_comparisons(
                part, packed=self.packed, share_prefix=self.shared, pad_token_id=self._pad
            )
            counts = [branch.target_tokens for tree in part for branch in tree.branches]
            pieces = iter(_split(self._scores(batch.inputs), counts))
            for tree in part:
                found[id(tree)] = tuple(next(pieces) for _ in tree.branches)
            if progress is not None:
                progress(len(counts))
        return [found[id(tree)] for tree in trees]

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def _scores(self, batch: Batch) -> Scores:
        device = next(self.model.parameters()).device
        dtype = compute_dtype(self.precision)
        exact = dtype == torch.float32
        with contextlib.nullcontext() if exact else torch.autocast(device.type, dtype):
            output = self.model(**model_inputs(to_device(batch, device)))
        return Scores(output["logps"].float().cpu().numpy(), output["correct"].cpu().numpy())


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
    if not packed:
        settle_padding(inner)
    install_target_head(inner)
    return Scorer(model.eval(), tokenizer, precision, packed, shared, max_tokens)


def _split(scores: Scores, counts: Sequence[int]) -> list[Scores]:
    places = np.cumsum(counts)[:-1]
    return [Scores(*parts) for parts in zip(*(np.split(each, places) for each in scores), strict=True)]
