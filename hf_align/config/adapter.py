"""Options of the adapter: small trained weights on a frozen model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.fields import option
from hf_align.config.group import Group

_ONLY_LORA = ("adapter", ("lora",))


@dataclass(frozen=True)
class AdapterConfig(Group):
    """The adapter, or ``none`` to train all weights."""

    title: ClassVar[str] = "Adapter"

    adapter: Literal["none", "lora"] = option("none", help="what is trained; none: all weights of the model")
    lora_r: int = option(16, ge=1, help="rank of the update matrices", needs=_ONLY_LORA)
    lora_alpha: float = option(
        32.0, gt=0, help="the update is scaled by lora_alpha / lora_r", needs=_ONLY_LORA
    )
    lora_dropout: float = option(0.0, ge=0, lt=1, help="dropout before the update", needs=_ONLY_LORA)
    lora_target_modules: str | list[str] = option(
        "all-linear",
        help="all-linear, a list of module names such as [q_proj, v_proj], or a regular expression",
        non_empty=True,
        needs=_ONLY_LORA,
    )
    modules_to_save: list[str] | None = option(
        None,
        help="modules trained in full and saved with the adapter, for example [lm_head]",
        non_empty=True,
        one_or_list=True,
        needs=_ONLY_LORA,
    )
    use_rslora: bool = option(False, help="scale by lora_alpha / sqrt(lora_r) instead", needs=_ONLY_LORA)
    use_dora: bool = option(
        False, help="weight-decomposed LoRA: trains magnitude and direction apart", needs=_ONLY_LORA
    )
