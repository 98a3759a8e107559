"""The data that flows between the layers, with shapes and units on every field.

Letters: S segments (sequences of a packed row), T tokens of a micro-batch row, B rows of a batch,
N target tokens of a micro-batch. A *target* is a token that the model is trained to predict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

IGNORE_INDEX = -100
"""The label of a position whose next token does not count in the loss (PyTorch's convention)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set in canonical form: exactly one of the three kinds is set.

    ``messages``: a conversation, rendered with the model's chat template.
    ``prompt`` and ``completion``: plain strings, joined without a template.
    ``text``: a plain document, every token of which is a target.
    ``source`` names the place the row came from, for example ``data/orders_en.jsonl:12``.
    """

    source: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One tokenised sequence of L tokens.

    ``input_ids`` (L,) int32. ``target_mask`` (L,) bool: True where the token itself is a target, so
    where the position before it is trained to predict it. ``target_mask[0]`` is always False: nothing
    comes before the first token.
    """

    input_ids: npt.NDArray[np.int32]
    target_mask: npt.NDArray[np.bool_]
    source: str = ""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def target_tokens(self) -> int:
        return int(self.target_mask.sum())


@dataclass(frozen=True)
class Segments:
    """Boundaries of the S sequences that are concatenated in one packed row of T tokens.

    ``starts`` and ``lengths`` (S,) are Python integers, so that no kernel launch waits for a device;
    ``cu_seqlens`` (S+1,) int32 holds the cumulative lengths on the model's device, starting with 0.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    cu_seqlens: torch.Tensor

    @property
    def max_length(self) -> int:
        return max(self.lengths)


@dataclass(frozen=True)
class Batch:
    """One micro-batch, packed (``segments`` set, B = 1) or padded (``attention_mask`` set).

    ``input_ids``, ``position_ids``, ``shift_labels``: (B, T) int64. ``shift_labels[b, t]`` is the token
    predicted from position t, or -100 where none counts. ``attention_mask`` (B, T): 1 for real tokens.
    ``target_tokens``: how many labels count. ``tokens``: how many positions are real tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    shift_labels: torch.Tensor
    target_tokens: int
    tokens: int
    segments: Segments | None = None
    attention_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns for one micro-batch.

    ``loss_sum``: scalar, the loss in nats summed over ``count`` units (target tokens for language
    modelling, pairs for preferences); the training loop divides by the units of the whole optimizer
    step. ``metrics``: sums over the same units, for logging; detached scalars.
    """

    loss_sum: torch.Tensor
    count: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


class PairLogps(NamedTuple):
    """Log-probabilities of B answer pairs: token sums in nats, and token counts; each (B,)."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_length: torch.Tensor
    rejected_length: torch.Tensor
