"""Adapters from PEFT, put on a base model as a recipe asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_align.config import AdapterConfig
from hf_align.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def apply_adapter(
    model: PreTrainedModel, config: AdapterConfig, *, task_type: str = "CAUSAL_LM", head: Sequence[str] = ()
) -> torch.nn.Module:
    """``model`` itself without an adapter, else a ``PeftModel`` around it with a frozen base.

    Adapter weights are float32 whatever the base's type. ``task_type``: PEFT's name of what the model does.
    ``head``: modules that are trained in full and saved with the adapter, whatever the recipe says. Raises
    UserError where the target modules are not in the model, naming those that are.
    """
    if config.adapter == "none":
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        modules_to_save=[*(config.modules_to_save or []), *head] or None,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        task_type=task_type,
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        found = ", ".join(_linear_names(model))
        raise UserError(
            f"lora_target_modules: {config.lora_target_modules!r} does not fit {type(model).__name__} "
            f"({str(error).splitlines()[0]}). Linear layers of this model: {found}"
        ) from error


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters. 4-bit weights are counted by their elements, not by their bytes."""
    total = trainable = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = parameter.numel() if state is None else state.shape.numel()
        total += count
        trainable += count if parameter.requires_grad else 0
    return total, trainable


def _linear_names(model: torch.nn.Module) -> list[str]:
    import torch

    return sorted(
        {name.split(".")[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    )
