"""Which model is the reference of a preference run, and how it runs over the rows before training.

At no time are two models in memory: another model than the one that is trained is loaded, run over all rows
and freed before training loads its own. What this leaves out: the reference of an adapter, which is the same
model with the adapter switched off, in the same step (``objectives.preference``).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate import PartialState

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.store import cache
from hf_align.errors import UserError
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.loading import load_model, load_tokenizer
from hf_align.preference.record import DpoRecord, Reference
from hf_align.preference.reference import ReferencedRows, ReferencePass
from hf_align.preference.reference_store import run_reference
from hf_align.runs.memory import free_memory
from hf_align.training.build import Layout, check_rows_fit, make_ready, may_pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_align.config import ModelConfig
    from hf_align.training.run import Run

logger = logging.getLogger(__name__)
Found = TypeVar("Found")


def referenced(run: Run, model: PreTrainedModel, layout: Layout, *, name: str) -> Run:
    """``run`` with rows that carry their log-probabilities under ``model``, which is as it will stay.

    ``model``: with a target head and batches of this ``layout``. ``name``: what run.json calls it.
    """
    keep = run.config.preference.reference_cache
    train, evaluation = reference_rows(
        run, model, layout, [run.data.train, run.data.eval], name=name, keep=keep
    )
    data = dataclasses.replace(run.data, train=train, eval=evaluation)
    return dataclasses.replace(run, data=data)


def reference_rows(
    run: Run, model: PreTrainedModel, layout: Layout, sets: Sequence[Any], *, name: str, keep: bool
) -> list[ReferencedRows]:
    """The rows of all ``sets`` with their log-probabilities under ``model``; run.json says what came of it.

    ``keep``: whether they are kept on disk for other runs. Otherwise as :func:`referenced`.
    """
    config = run.config
    folder = None
    if keep:
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
    found, facts = run_reference(model, sets, how, folder=folder)
    said = dataclasses.asdict(facts)
    stored_as = said.pop("entry")
    reference = Reference(kind="run beforehand", model=name, stored_as=stored_as, **said)
    run.record.update(DpoRecord(reference=reference))
    return found


def referenced_by_another(run: Run) -> Run:
    """``run`` with rows that carry their log-probabilities under ``ref_model_name_or_path``.

    That model is loaded as the policy will be, and gone when this returns. Raises UserError where it cannot
    be loaded or has another vocabulary.
    """
    name = run.config.preference.ref_model_name_or_path
    assert name is not None
    share = run.config.comparison.share_prefix
    return by_another(run, name, lambda *model: referenced(run, *model, name=name), share=share)


def by_another(
    run: Run, name: str, compute: Callable[[PreTrainedModel, Layout], Found], *, share: bool = False
) -> Found:
    """What ``compute`` finds with the model ``name`` and the layout of its batches; the model is freed then.

    ``share``: as in ``make_ready``. Raises UserError where it cannot be loaded or has another vocabulary.
    """
    config = run.config
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
        check_rows_fit(run, model)
    except UserError as error:
        raise UserError(f"ref_model_name_or_path: {error}") from error
    layout = make_ready(model, install_target_head, pack=may_pack(config), share=share)
    done = compute(model, layout)
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
