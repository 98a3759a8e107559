"""Options of every stage that learns from compared answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem


@dataclass(frozen=True)
class ComparisonConfig(Group):
    """How prompts with several answers are computed."""

    title: ClassVar[str] = "Comparisons"

    share_prefix: bool = option(True, help="encode each prompt once for all its answers", changes="rounding")
    disable_dropout: bool = option(
        True, help="no dropout in the base model, so that both answers meet the same model"
    )


def check_answers_are_trained(train_on: str) -> None:
    """Raise :class:`KeyProblem` where other targets than the compared answers are asked for."""
    if train_on != "assistant":
        raise KeyProblem(
            ("train_on",), f"found {train_on}; what counts here are the compared answers. Leave it out."
        )
