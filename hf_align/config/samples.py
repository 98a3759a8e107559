"""Options of the sample generations, made before and after training on held-out prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_align.config.fields import option
from hf_align.config.group import Group


@dataclass(frozen=True)
class SamplesConfig(Group):
    """How many held-out prompts are answered, and how."""

    title: ClassVar[str] = "Samples"

    num_samples: int = option(
        4, ge=0, help="held-out prompts answered before and after training; 0: none", changes="outputs"
    )
    sample_max_new_tokens: int = option(64, ge=1, help="longest answer in tokens", changes="outputs")
    sample_temperature: float = option(
        0.0, ge=0, help="sampling temperature; 0: always the likeliest token", changes="outputs"
    )
