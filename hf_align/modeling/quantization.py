"""bitsandbytes quantisation of a frozen base: NF4 or FP4 with double quantisation, or int8."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from hf_align.modeling.precision import Precision


def quantization_config(
    config: ModelConfig, precision: Precision, *, not_quantized: Sequence[str] | None = None
) -> Any | None:
    """The ``BitsAndBytesConfig`` that a recipe asks for, or None.

    ``not_quantized``: modules that keep ordinary weights; by default those that transformers leaves out.
    """
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
        llm_int8_skip_modules=None if not_quantized is None else list(not_quantized),
    )


def prepare_quantized(model: torch.nn.Module) -> None:
    """Keep 4-bit layers trainable through on processors with AVX512-BF16, and 8-bit layers quiet.

    There, bitsandbytes 0.50 repacks 4-bit weights in the first forward pass in evaluation mode, and
    training afterwards bypasses autograd: gradients are wrong and nothing says so. Its int8 layers log the
    same warning in every call.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    bitsandbytes_log = logging.getLogger("bitsandbytes.autograd._functions")
    if not any(isinstance(known, _OncePerMessage) for known in bitsandbytes_log.filters):
        bitsandbytes_log.addFilter(_OncePerMessage())


@contextlib.contextmanager
def independent_rows(model: torch.nn.Module) -> Iterator[None]:
    """Quantise int8 activations row by row only, so that one token's activations cannot touch another's.

    LLM.int8() computes the columns that hold an outlier in any row of the batch in higher precision
    (arXiv 2208.07339, section 3.2): the rounding of a sequence depends on its neighbours, packed or padded.
    A test of whether sequences influence each other otherwise has to leave that out.
    """
    if not getattr(model, "is_loaded_in_8bit", False):
        yield
        return
    from bitsandbytes.nn import Linear8bitLt

    states = [module.state for module in model.modules() if isinstance(module, Linear8bitLt)]
    thresholds = [state.threshold for state in states]
    for state in states:
        state.threshold = 0.0
    try:
        yield
    finally:
        for state, threshold in zip(states, thresholds, strict=True):
            state.threshold = threshold


class _OncePerMessage(logging.Filter):
    """Lets every message through once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self.seen
        self.seen.add(message)
        return new
