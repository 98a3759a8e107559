"""Which model is the reference of a preference run, and how it runs over the rows before training.

At no time are two models in memory: another model than the one that is trained is loaded, run over all rows
and freed before training loads its own. What this leaves out: the reference of an adapter, which is the same
model with the adapter switched off, in the same step (``objectives.preference``).
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from accelerate import PartialState

from hf_align.adapters.factory import can_pack
from hf_align.data import cache
from hf_align.data.comparison_batches import collate_comparisons
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model, load_tokenizer
from hf_align.modeling.target_head import install_target_head
from hf_align.training import launch, trained_model
from hf_align.training.memory import free_memory
from hf_align.training.reference import ReferencePass
from hf_align.training.reference_store import run_reference

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_align.config import DpoConfig, ModelConfig
    from hf_align.training.stage import Run

logger = logging.getLogger(__name__)

Layout = Literal["shared", "packed", "padded"]


def ready_for_answers(run: Run, model: PreTrainedModel) -> Layout:
    """Give ``model`` its target head and find out how its batches look: what it can, and the recipe wants."""
    config: DpoConfig = run.config
    layout: Layout = "padded"
    if config.data.packing and can_pack(config.adapter) and launch.enable_segment_attention(model):
        layout = "packed"
        if config.comparison.share_prefix and launch.shares_prefixes(model):
            layout = "shared"
    install_target_head(model)
    return layout


def referenced(run: Run, model: PreTrainedModel, layout: Layout, *, name: str) -> Run:
    """``run`` with rows that carry their log-probabilities under ``model``, which is as it will stay.

    ``model``: made ready by :func:`ready_for_answers`. ``name``: what run.json calls it.
    """
    config: DpoConfig = run.config
    folder = None
    if config.preference.reference_cache:
        folder = cache.writable_folder(
            config.data.dataset_cache_dir, what="the reference's log-probabilities"
        )
    how = ReferencePass(
        collate=partial(
            collate_comparisons,
            packed=layout != "padded",
            share_prefix=layout == "shared",
            pad_token_id=run.tokenizer.pad_token_id,
        ),
        layout=layout,
        max_tokens=config.training.max_tokens_per_batch,
        precision=run.machine.precision,
        device=PartialState().device,
    )
    sets: list[Any] = [run.data.train, run.data.eval]
    (train, evaluation), facts = run_reference(model, sets, how, folder=folder)
    run.record.update(reference={"kind": "run beforehand", "model": name, **dataclasses.asdict(facts)})
    data = dataclasses.replace(run.data, train=train, eval=evaluation)
    return dataclasses.replace(run, data=data)


def referenced_by_another(run: Run) -> Run:
    """``run`` with rows that carry their log-probabilities under ``ref_model_name_or_path``.

    That model is loaded as the policy will be, and gone when this returns. Raises UserError where it cannot
    be loaded or has another vocabulary.
    """
    config: DpoConfig = run.config
    name = config.preference.ref_model_name_or_path
    assert name is not None
    wanted = dataclasses.replace(
        config.model, model_name_or_path=name, model_revision=None, tokenizer_name_or_path=None
    )
    try:
        _check_tokenizer(wanted, run.tokenizer)
        model = load_model(
            wanted,
            trainable_base=config.adapter.trains_base,
            precision=run.machine.precision,
            use_cpu=run.machine.use_cpu,
        )
        trained_model.check_rows_fit(run, model)
    except UserError as error:
        raise UserError(f"ref_model_name_or_path: {error}") from error
    done = referenced(run, model, ready_for_answers(run, model), name=name)
    del model
    free_memory()
    return done


def _check_tokenizer(reference: ModelConfig, tokenizer: Any) -> None:
    """Raise UserError where the reference reads the same ids as other text."""
    ours, theirs = tokenizer.get_vocab(), load_tokenizer(reference).get_vocab()
    differing = sorted(token for token in ours if theirs.get(token) != ours[token])
    if not differing:
        return
    raise UserError(
        f"'{reference.model_name_or_path}' has another tokenizer than the model that is trained: "
        f"{len(differing):,} of {len(ours):,} tokens have no or another id there, such as "
        f"{', '.join(map(repr, differing[:3]))}. A reference has to read the same ids"
    )
