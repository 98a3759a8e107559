"""Activation checkpointing under both of its names; transformers 5.24 renames gradient checkpointing."""

from __future__ import annotations

from typing import Any

_OPTIONS = {"use_reentrant": False}


def checkpointing_arguments() -> dict[str, Any]:
    """Keywords that make ``transformers.TrainingArguments`` recompute activations in the backward pass."""
    from transformers import TrainingArguments

    fields = TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if "activation_checkpointing" in fields else "gradient_checkpointing"
    return {name: True, f"{name}_kwargs": dict(_OPTIONS)}


def enable_checkpointing(model: Any) -> None:
    """Let a transformers model, or one of PEFT's around it, recompute activations in the backward pass."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=dict(_OPTIONS))
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(_OPTIONS))


def disable_checkpointing(model: Any) -> None:
    """The opposite of :func:`enable_checkpointing`."""
    if hasattr(model, "activation_checkpointing_disable"):
        model.activation_checkpointing_disable()
    else:
        model.gradient_checkpointing_disable()
