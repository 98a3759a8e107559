"""The precision of the computation, chosen from the hardware unless the recipe sets it."""

from __future__ import annotations

from typing import Literal

import torch

from hf_align.errors import UserError

Precision = Literal["fp32", "bf16", "fp16"]


def runs_on_cpu(use_cpu: bool) -> bool:
    """Whether a run computes on the CPU: because the recipe says so, or because there is nothing else.

    transformers and Accelerate have to be told: without it they refuse bf16, and processes started by
    torchrun do not synchronise.
    """
    return use_cpu or not torch.accelerator.is_available()


def resolve_precision(wanted: str, *, use_cpu: bool = False) -> Precision:
    """``auto`` becomes bf16 where the hardware is fast at it, else fp32.

    bf16 is fast on GPUs from compute capability 8.0 on and on x86 processors with AVX512-BF16 or AMX.
    Raises UserError for bf16 or fp16 where the device cannot run it.
    """
    cuda = torch.cuda.is_available() and not use_cpu
    if wanted == "fp16":
        if not cuda:
            raise UserError("precision: fp16 needs a CUDA GPU; use bf16, fp32 or auto")
        return "fp16"
    if wanted == "bf16":
        if cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError("precision: this GPU does not support bf16; use fp16, fp32 or auto")
        return "bf16"
    if wanted == "fp32":
        return "fp32"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _cpu_has_fast_bf16()
    return "bf16" if fast else "fp32"


def compute_dtype(precision: Precision) -> torch.dtype:
    """The number format that a precision computes in."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _cpu_has_fast_bf16() -> bool:
    # PyTorch has no public question for this; a build without the private ones is treated as without.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)
