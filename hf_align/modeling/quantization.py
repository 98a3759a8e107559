"""bitsandbytes quantisation of a frozen base: NF4 or FP4 with double quantisation, or int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_align.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from hf_align.modeling.precision import Precision


def quantization_config(config: ModelConfig, precision: Precision) -> Any | None:
    """The ``BitsAndBytesConfig`` that a recipe asks for, or None."""
    if not (config.load_in_4bit or config.load_in_8bit):
        return None
    from transformers import BitsAndBytesConfig

    from hf_align.modeling.precision import compute_dtype

    return BitsAndBytesConfig(
        load_in_4bit=config.load_in_4bit,
        load_in_8bit=config.load_in_8bit,
        bnb_4bit_quant_type=config.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=config.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=compute_dtype(precision),
    )


def prepare_quantized(model: torch.nn.Module) -> None:
    """Keep 4-bit layers trainable through on processors with AVX512-BF16.

    There, bitsandbytes 0.50 repacks the weights in the first forward pass in evaluation mode, and
    training afterwards bypasses autograd: gradients are wrong and nothing says so.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
