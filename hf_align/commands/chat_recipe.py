"""Options of ``hf-align chat``: the model, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import Group, Recipe, with_home
from hf_align.config.model import ModelConfig


@dataclass(frozen=True)
class ChatOptions(Group):
    """How the conversation is led."""

    title: ClassVar[str] = "Chat"

    base_model: str | None = shared.base_model()
    system_prompt: str | None = option(
        None, help="the system prompt; default: the one that the run was trained with, if any", text=True
    )
    tools: str | None = option(
        None,
        help="a Python file whose public functions the model may call, those with type hints and a "
        "docstring. The file is run: it can do anything that you can",
        non_empty=True,
    )
    max_new_tokens: int = option(512, ge=1, help="longest answer in tokens")
    temperature: float = option(0.7, ge=0, help="sampling temperature; 0: always the likeliest token")
    top_p: float = shared.top_p(0.95)
    seed: int = option(42, ge=0, help="seed of the random draws")
    use_cpu: bool = shared.use_cpu()

    def check(self) -> None:
        for key in ("base_model", "tools"):
            object.__setattr__(self, key, with_home(getattr(self, key)))


@dataclass(frozen=True)
class ChatConfig(Recipe):
    """A conversation with a model."""

    model: ModelConfig
    chat: ChatOptions = field(default_factory=ChatOptions)
