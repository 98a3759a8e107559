"""Options of ``hf-align chat``: the model, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hf_align.config.fields import option
from hf_align.config.group import Group, Recipe
from hf_align.config.model import ModelConfig


@dataclass(frozen=True)
class ChatOptions(Group):
    """How the conversation is led."""

    title: ClassVar[str] = "Chat"

    base_model: str | None = option(
        None, help="the base of an adapter, where it is not where the adapter says", non_empty=True
    )
    system_prompt: str | None = option(
        None, help="the system prompt; default: the one that the run was trained with, if any"
    )
    max_new_tokens: int = option(512, ge=1, help="longest answer in tokens")
    temperature: float = option(0.7, ge=0, help="sampling temperature; 0: always the likeliest token")
    top_p: float = option(
        0.95, gt=0, le=1, help="draw from the likeliest tokens that have this probability together"
    )
    seed: int = option(42, ge=0, help="seed of the random draws")
    use_cpu: bool = option(False, help="compute on the CPU even where there is a GPU")


@dataclass(frozen=True)
class ChatConfig(Recipe):
    """A conversation with a model."""

    model: ModelConfig
    chat: ChatOptions = field(default_factory=ChatOptions)
