"""Options of the base model: which one, in which number format, with which chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, with_home

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_ONLY_4BIT = ("load_in_4bit", (True,))


@dataclass(frozen=True)
class ModelConfig(Group):
    """The base model and its tokenizer."""

    title: ClassVar[str] = "Model"

    model_name_or_path: str = option(help="a folder with the model, or its name on the hub", non_empty=True)
    model_revision: str | None = shared.model_revision()
    tokenizer_name_or_path: str | None = shared.tokenizer_name_or_path()
    trust_remote_code: bool = shared.trust_remote_code()
    dtype: Dtype = option(
        "auto", help="number format of the loaded weights; auto: what suits the hardware and the method"
    )
    load_in_4bit: bool = option(False, help="hold the frozen weights in 4 bits (QLoRA, bitsandbytes)")
    load_in_8bit: bool = option(False, help="hold the frozen weights in 8 bits (LLM.int8, bitsandbytes)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = option("nf4", help="4-bit data type", needs=_ONLY_4BIT)
    use_bnb_nested_quant: bool = option(
        True, help="quantise the scales of the 4-bit blocks as well (double quantisation)", needs=_ONLY_4BIT
    )
    chat_template_path: str | None = shared.chat_template_path()

    def check(self) -> None:
        for name in ("model_name_or_path", "tokenizer_name_or_path", "chat_template_path"):
            object.__setattr__(self, name, with_home(getattr(self, name)))
        if self.load_in_4bit and self.load_in_8bit:
            raise KeyProblem(("load_in_4bit", "load_in_8bit"), "only one of the two can be true.")
