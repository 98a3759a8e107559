"""Options of ``hf-align merge``: the adapter and its base, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.model import ModelConfig


@dataclass(frozen=True)
class MergeOptions(Group):
    """What is merged into what, how it is stored, and how exact it has to be."""

    title: ClassVar[str] = "Merge"

    output_dir: str = shared.output_dir(help="folder for the merged model; new or empty")
    base_model: str | None = shared.base_model()
    save_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", help="number format of the saved weights; auto: that of the base's own files"
    )
    tolerance: float | None = option(
        None,
        gt=0,
        help="refuse where a logit moves by more than this many standard deviations of the logits; "
        "default: 0.001 for weights saved in float32, 0.25 for 16 bits, 2.5 for a base in 8 bits",
        changes="outputs",
    )
    use_cpu: bool = shared.use_cpu()

    def check(self) -> None:
        for name in ("output_dir", "base_model"):
            object.__setattr__(self, name, with_home(getattr(self, name)))


@dataclass(frozen=True)
class MergeConfig(Recipe):
    """Merging an adapter into its base."""

    model: ModelConfig
    merge: MergeOptions

    def check(self) -> None:
        if self.model.dtype != "auto":
            raise KeyProblem(
                ("dtype",), "weights are merged in float32; save_dtype says how the result is stored."
            )
