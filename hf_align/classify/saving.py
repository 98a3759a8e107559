"""An adapter of a classifier merged into its base: one plain float32 model, compared before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_align.classify.batches import collate_labelled
from hf_align.classify.model import load_classifier_base, reads_segments
from hf_align.modeling.inputs import classification_inputs
from hf_align.saved_models.merging import as_trained, keep_if_same
from hf_align.saved_models.trained_heads import with_saved_adapter, write_merged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import ModelConfig
    from hf_align.modeling.precision import Precision
    from hf_align.types import LabelledRow


def save_merged(
    folder: str | Path,
    adapter: Path,
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[LabelledRow],
    *,
    labels: Sequence[str],
    precision: Precision,
) -> float:
    """Write the base of ``config`` with the saved ``adapter`` in it to ``folder``; tokenizer included.

    On the CPU and in float32, which takes four bytes a parameter; the base is read in the type that it was
    trained in (``precision``). ``rows`` are classified before merging and by what was written, as plain
    transformers does; returns the largest difference of their logits, in standard deviations. Raises
    UserError where it is more than rounding explains, and keeps no merged model then.
    """
    from transformers import AutoModelForSequenceClassification

    base: Any = load_classifier_base(
        as_trained(config, precision), labels=labels, trainable_base=False, precision="fp32", use_cpu=True
    )
    model = with_saved_adapter(base, adapter, tokenizer)
    pad = int(tokenizer.pad_token_id)
    before = plain_logits(model, rows, pad)
    write_merged(model, folder, tokenizer)
    after = plain_logits(AutoModelForSequenceClassification.from_pretrained(folder).eval(), rows, pad)
    difference = float((after - before).abs().max() / before.std().clamp_min(1e-6))
    keep_if_same(Path(folder), difference, what="logits", adapter=adapter)
    return difference


@torch.no_grad()
def plain_logits(model: Any, rows: Sequence[LabelledRow], pad_token_id: int) -> torch.Tensor:
    """(B, C) float32 on the CPU: what a classifier gives without anything of this package in its forward."""
    batch = collate_labelled(rows, packed=False, pad_token_id=pad_token_id, segment_ids=reads_segments(model))
    inputs = classification_inputs(batch)
    del inputs["last_tokens"]
    return model(**{name: value.to(model.device) for name, value in inputs.items()}).logits.float().cpu()
