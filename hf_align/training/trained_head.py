"""A head that reads one token of a sequence: what training a reward model and a classifier share.

Padding, packing and the adapter around it. The heads themselves are in ``modeling.reward_head`` and
``modeling.sequence_head``.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_align.training import launch, trained_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from hf_align.training.stage import Run

CHECKED_ROWS = 4
"""Rows whose scores or logits are compared before and after an adapter is merged."""


def ready_for_rows(run: Run, base: PreTrainedModel) -> int:
    """Settle how rows are padded, and check that they fit; returns the id of the pad token.

    Raises UserError where the vocabulary or the positions do not reach for the data.
    """
    from hf_align.modeling.pad_token import choose_pad_token

    pad_token_id = choose_pad_token(run.tokenizer, base)
    # Saved with the tokenizer: on the right, positions count from the first token for every model family.
    run.tokenizer.padding_side = "right"
    trained_model.check_rows_fit(run, base)
    return pad_token_id


def packs(run: Run, base: PreTrainedModel) -> bool:
    """Whether rows can be packed, as the recipe asks; the model then attends inside segments."""
    from hf_align.adapters.factory import can_pack
    from hf_align.modeling.sequence_head import reads_last_token

    possible = run.config.data.packing and reads_last_token(base) and can_pack(run.config.adapter)
    return possible and launch.enable_segment_attention(base)


def adapted_with_head(run: Run, base: PreTrainedModel) -> torch.nn.Module:
    """The base with the adapter of the recipe, beside which its head is trained."""
    from hf_align.adapters.factory import apply_adapter
    from hf_align.modeling.reward_model import head_modules

    with_head = partial(apply_adapter, task_type="SEQ_CLS", head=head_modules(base))
    return trained_model.adapted(run, base, run.config.adapter, with_head)


def checked_rows(run: Run) -> list[Any]:
    """The rows that are compared where an adapter is merged: held-out ones where there are any."""
    return list(itertools.islice(run.data.eval or run.data.train, CHECKED_ROWS))
