"""What a recipe trains, put on a base model: one of PEFT's methods, one of ours, or chosen weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_align.config import AdapterConfig
from hf_align.config.adapter import OWN

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def apply_adapter(
    model: PreTrainedModel,
    config: AdapterConfig,
    *,
    task_type: str = "CAUSAL_LM",
    head: Sequence[str] = (),
    new_rows: Sequence[int] = (),
) -> torch.nn.Module:
    """``model`` itself without an adapter, else a ``PeftModel`` around it with a frozen base.

    Adapter weights are float32 whatever the base's type. ``task_type``: PEFT's name of what the model does.
    ``head``: modules that are trained in full and saved with the adapter, whatever the recipe says.
    ``new_rows``: of the embeddings, trained beside LoRA. Raises UserError where the method does not fit the
    model, naming what is there.
    """
    if config.trains_base:
        if config.trainable is not None:
            from hf_align.adapters.trainable import train_only

            train_only(model, config.trainable, head=head)
        return model
    modules_to_save = [*(config.modules_to_save or []), *head]
    if config.adapter not in OWN:
        from hf_align.adapters.peft_methods import apply_peft

        return apply_peft(
            model, config, task_type=task_type, modules_to_save=modules_to_save, new_rows=new_rows
        )
    from hf_align.adapters.custom.model import add_adapter
    from hf_align.adapters.methods import METHODS

    return add_adapter(
        model,
        METHODS[config.adapter],
        own_options(config),
        task_type=task_type,
        modules_to_save=modules_to_save,
    )


def own_options(config: AdapterConfig) -> Any:
    """The options of one of our methods, from the keys of a recipe that begin with its name."""
    from hf_align.adapters.methods import METHODS

    method = METHODS[config.adapter]
    names = method.options.__dataclass_fields__
    return method.options(**{name: getattr(config, f"{method.name}_{name}") for name in names})


def can_pack(config: AdapterConfig) -> bool:
    """Whether sequences may lie side by side in a row with this adapter; the log says why they may not."""
    if config.virtual_tokens:
        logger.info(
            "adapter: %s puts %d virtual tokens before each row, so sequences are not packed; batches are "
            "padded",
            config.adapter,
            config.num_virtual_tokens,
        )
    return not config.virtual_tokens


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters. 4-bit weights are counted by their elements, not by their bytes."""
    total = trainable = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = parameter.numel() if state is None else state.shape.numel()
        total += count
        trainable += count if parameter.requires_grad else 0
    return total, trainable


def trained_weights(model: torch.nn.Module) -> list[dict[str, Any]]:
    """What is trained, by name: see ``trainable.summarised``."""
    from hf_align.adapters.trainable import summarised

    return summarised({name: p for name, p in model.named_parameters() if p.requires_grad})
