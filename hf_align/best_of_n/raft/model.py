"""The model that a round of rejection-sampling fine-tuning trains: the one that sampled, trained further.

All weights, a new adapter, the adapter of the round before, or the adapter that the run began with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.errors import UserError
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.loading import load_model
from hf_align.modeling.virtual_tokens import count_virtual_tokens
from hf_align.runs.schema import Model
from hf_align.saved_models.run_models import ModelSource, attach_adapter
from hf_align.sft.recipe import SftConfig
from hf_align.training import tasks
from hf_align.training.build import build_model

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task


def check_start(source: ModelSource, adapter: AdapterConfig) -> None:
    """Raise UserError where the recipe asks for an adapter on a model that has one."""
    if source.adapter is not None and adapter.adapter != "none":
        raise UserError(
            f"adapter: {source.adapter} is an adapter itself, which is trained further as it is; remove the "
            "keys of the adapter, or merge it first (hf-align merge)"
        )


def build(run: Run, source: ModelSource) -> tuple[torch.nn.Module, Task]:
    """The model of ``source`` with what is trained on it, and the task: those of ``hf-align sft``.

    Raises UserError where it cannot be loaded, or does not fit the data.
    """
    config: SftConfig = run.config

    def add_adapter(base: Any, adapter: AdapterConfig) -> Any:
        if source.adapter is None or adapter.adapter != "none":
            model: Any = apply_adapter(base, adapter)
            if source.adapter is not None:
                model.load_adapter(str(source.adapter), model.active_adapter, is_trainable=True)
            return model
        model = attach_adapter(base, source.adapter, run.tokenizer)
        model.set_adapter(model.active_adapter)
        return model

    built = build_model(
        run,
        # The model that sampled, which the recipe of the round does not name.
        lambda _, **options: load_model(source.config, **options),
        install_target_head,
        apply=add_adapter,
        trainable_base=source.adapter is None and config.adapter.trains_base,
    )
    model: Any = built.model
    packed = built.packed and not count_virtual_tokens(model)
    if source.adapter is not None and config.adapter.trains_base:
        kind = str(model.peft_config[model.active_adapter].peft_type).lower()
        run.record.update_model(Model(adapter=kind.rpartition(".")[2]))
    return model, tasks.language_model_task(packed=packed, pad_token_id=int(run.tokenizer.pad_token_id))
