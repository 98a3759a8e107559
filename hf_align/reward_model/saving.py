"""A reward adapter merged into its base: one plain float32 model, its scores compared before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_align.modeling.heads.reward import install_reward_head
from hf_align.modeling.reward_model import load_reward_base
from hf_align.saved_models.merging import as_trained, keep_if_same
from hf_align.saved_models.reward_scoring import (
    RewardModel,
    load_reward_model,
    score_rows,
)
from hf_align.saved_models.trained_heads import with_saved_adapter, write_merged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import ModelConfig
    from hf_align.modeling.precision import Precision
    from hf_align.types import ComparisonRow


def save_merged(
    folder: str | Path,
    adapter: Path,
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[ComparisonRow],
    *,
    precision: Precision,
) -> float:
    """Write the base of ``config`` with the saved ``adapter`` in it to ``folder``; tokenizer included.

    On the CPU and in float32, which takes four bytes a parameter; the base is read in the type that it was
    trained in (``precision``), so that its weights are those that the adapter was trained on. ``rows`` are
    scored before merging and by what was written; returns the largest difference, in standard deviations of
    the scores. Raises UserError where it is more than rounding explains, and keeps no merged model then.
    """
    base: Any = load_reward_base(
        as_trained(config, precision), trainable_base=False, precision="fp32", use_cpu=True, head_init="zero"
    )
    model = with_saved_adapter(base, adapter, tokenizer)
    install_reward_head(base)
    before = score_rows(RewardModel(model, tokenizer, "fp32", packed=False, shared=False), rows)
    write_merged(model, folder, tokenizer)
    after = score_rows(load_reward_model(folder, packing=False, dtype="float32", use_cpu=True), rows)
    scale = max(float(before.std()), 1e-6)
    difference = float(np.abs(after - before).max()) / scale
    keep_if_same(
        Path(folder),
        difference,
        what="scores",
        adapter=adapter,
        advice=" Set save_merged: false to keep it at that.",
    )
    return difference
