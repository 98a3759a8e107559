"""Scores from a saved reward model: one call to load it, however it was saved, and one to score rows.

A merged or fully trained reward model is a plain sequence classifier, which transformers loads as well. An
adapter on a quantised base keeps its head in the adapter; :func:`load_reward_model` puts the two together as
they were trained.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.config import ModelConfig
from hf_align.config.model import Dtype
from hf_align.data.batching import split_by_tokens
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import to_device
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.attention.padding_probe import settle_padding
from hf_align.modeling.heads.reward import install_reward_head, reads_last_token
from hf_align.modeling.inputs import scoring_inputs
from hf_align.modeling.lengths_apart import lengths_apart
from hf_align.modeling.loading import check_vocabulary, load_tokenizer
from hf_align.modeling.pad_token import set_pad_token
from hf_align.modeling.precision import Precision, compute_dtype
from hf_align.modeling.reward_model import load_reward_base
from hf_align.runs.record import RUN_FILE
from hf_align.saved_models.reward_record import RewardRecord
from hf_align.saved_models.run_models import ModelSource, attach_adapter, find_model
from hf_align.types import ComparisonRow, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFERENCE_KEY = "hf_align_reward"
"""The key of ``config.json`` under which the scores of a reference set are described."""


@dataclass(frozen=True)
class RewardModel:
    """A reward model that is ready to score.

    ``model``: in evaluation mode, its forward taking ``last_tokens``. ``packed``: whether sequences lie side
    by side in a row; ``shared``: whether answers share their prompt there. ``reference``: ``mean`` and
    ``std`` of its scores on a reference set, ``answers`` and ``source`` of that set, where they were stored;
    (score - mean) / std is the score in units of that set.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    precision: Precision
    packed: bool
    shared: bool
    reference: dict[str, Any] | None = None


def load_reward_model(
    path: str | Path,
    *,
    base: str | None = None,
    packing: bool = True,
    dtype: Dtype = "auto",
    use_cpu: bool = False,
    trust_remote_code: bool = False,
) -> RewardModel:
    """The reward model in ``path``: a run folder, a checkpoint in one, an adapter, or any saved classifier.

    ``base``: the base of an adapter, where it is not where the adapter says. ``dtype``: ``float32`` or
    ``bfloat16``, or ``auto``: an adapter's base as it was trained, other models as suits the hardware. Raises
    UserError where there is no reward model, or one without a head.
    """
    config = ModelConfig(str(path), dtype=dtype, trust_remote_code=trust_remote_code)
    source = find_model(config, base=base, use_cpu=use_cpu, task_type="SEQ_CLS")
    tokenizer = load_tokenizer(source.config)
    model: Any = load_reward_base(
        source.config,
        trainable_base=False,
        precision=source.precision,
        use_cpu=use_cpu,
        head_init=None if source.adapter is None else "zero",
    )
    if source.adapter is not None:
        add_row_for_padding(model, tokenizer)
        model = attach_adapter(model, source.adapter, tokenizer)
    else:
        check_vocabulary(model, tokenizer)
    inner = model if source.adapter is None else model.get_base_model()
    set_pad_token(inner, tokenizer.pad_token_id)
    if source.quantization is None and not use_cpu and torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    packed = packing and reads_last_token(inner) and enable_segment_attention(inner)
    shared = packed and shares_prefixes(inner)
    if not packed:
        settle_padding(inner)
    install_reward_head(inner)
    return RewardModel(model.eval(), tokenizer, source.precision, packed, shared, _reference(source, inner))


@torch.no_grad()
def score_rows(
    reward: RewardModel, rows: Sequence[ComparisonRow | TokenizedRow], *, max_tokens: int = 4096
) -> npt.NDArray[np.float32]:
    """(A,) scores of all answers, in the order of the rows and of the branches in them.

    A ``TokenizedRow`` is one answer with its prompt. ``max_tokens``: tokens computed at once; it changes
    speed and memory, never the scores beyond rounding. Scores are raw, not centred.
    """
    found: dict[int, npt.NDArray[np.float32]] = {}
    trees = [_as_tree(row) for row in rows]
    device = next(reward.model.parameters()).device
    dtype = compute_dtype(reward.precision)
    layout = {"padded": not reward.packed, "shared": reward.shared}
    apart = lengths_apart(reward.model, padded=not reward.packed)
    for batch_rows in split_by_tokens(trees, max_tokens, **layout, apart=apart):
        batch = collate_comparisons(
            batch_rows,
            packed=reward.packed,
            share_prefix=reward.shared,
            pad_token_id=int(reward.tokenizer.pad_token_id),
        )
        exact = dtype == torch.float32
        with contextlib.nullcontext() if exact else torch.autocast(device.type, dtype):
            output = reward.model(**scoring_inputs(to_device(batch, device)))
        scores = output["scores"].float().cpu().numpy()
        ends = np.cumsum([len(row.branches) for row in batch_rows])
        for row, part in zip(batch_rows, np.split(scores, ends[:-1]), strict=True):
            found[id(row)] = part
    return np.concatenate([np.zeros(0, dtype=np.float32), *(found[id(tree)] for tree in trees)])


def read_reference(path: str | Path) -> dict[str, Any] | None:
    """What is stored about the scores of a reference set beside a reward model, without loading the model."""
    for name in ("config.json", RUN_FILE):
        with contextlib.suppress(OSError, ValueError):  # a hub id, or a folder without such a file
            content = json.loads((Path(path) / name).read_bytes())
            found = RewardRecord.of(content).reward_reference
            if name != RUN_FILE:
                found = content.get(REFERENCE_KEY) if isinstance(content, dict) else None
            if isinstance(found, dict) and found:
                return found
    return None


def write_reference(folder: str | Path, reference: Mapping[str, Any]) -> None:
    """Store ``reference`` in the ``config.json`` of ``folder``, if there is a whole model in it."""
    file = Path(folder) / "config.json"
    if file.is_file():
        content = json.loads(file.read_bytes()) | {REFERENCE_KEY: dict(reference)}
        part = file.with_name(".config.json.part")
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(file)


def _reference(source: ModelSource, model: Any) -> dict[str, Any] | None:
    stored = getattr(model.config, REFERENCE_KEY, None) if source.adapter is None else None
    return stored or read_reference(source.adapter or source.config.model_name_or_path)


def _as_tree(row: ComparisonRow | TokenizedRow) -> ComparisonRow:
    prefix, branches = row.pieces()
    return ComparisonRow(prefix, branches, np.zeros(len(branches)), source=row.source)


def add_row_for_padding(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Training may have added a pad token to the vocabulary; nothing attends to it, so its row may hold
    anything."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) == rows + 1 and tokenizer.pad_token_id == rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
