"""BitFit: only the bias terms that a model has are trained (Ben Zaken et al. 2022, arXiv 2106.10199).

A module that ends in "+ b" gives b + delta with the adapter on; delta begins at zero and is all that is
trained and saved, so the base stays as it is, also in 4 bits. What this leaves out: new biases where a model
has none, and the head of a task, which ``modules_to_save`` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from hf_align.adapters.method import Added, Method
from hf_align.errors import UserError

_ENDS_IN_BIAS = (torch.nn.Linear, Conv1D, torch.nn.LayerNorm)
"""Modules whose output is something plus their bias; bitsandbytes' layers are subclasses of Linear."""


@dataclass(frozen=True)
class BitFitOptions:
    """BitFit has no options: it trains every bias of the trunk."""


class BiasChange(Added):
    """y = f(x) + b + delta for a module f with the bias b (n,)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.delta = torch.nn.Parameter(torch.zeros(size))

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        output: torch.Tensor = base(*args, **kwargs)
        return output + self.delta.to(output.dtype)

    def merge_into(self, base: torch.nn.Module) -> None:
        bias: Any = base.bias
        with torch.no_grad():
            bias.add_(self.delta.to(bias.device, bias.dtype))


def attach(base: Any, options: BitFitOptions) -> Mapping[str, Added]:
    """Every bias of the trunk. Raises UserError where there is none."""
    trunk = base.base_model
    inside = set(map(id, trunk.modules()))
    found: dict[str, Added] = {}
    left: list[str] = []
    for path, module in base.named_modules():
        bias = getattr(module, "bias", None)
        if id(module) not in inside or not isinstance(bias, torch.nn.Parameter):
            continue
        if isinstance(module, _ENDS_IN_BIAS):
            found[path] = BiasChange(bias.numel())
        else:
            left.append(path)
    if not found:
        which = f"; {', '.join(left[:3])} have one of another kind" if left else ""
        raise UserError(
            f"adapter: bitfit trains the bias terms that a model has, and {type(base).__name__} has "
            f"none{which}. Llama, SmolLM2, Mistral and Qwen3 have none; GPT-2, GPT-NeoX, Phi, BERT and BART "
            "have some. For this model take adapter: ln_tuning (the scales of the norms), ia3 or lora."
        )
    return found


BITFIT = Method("bitfit", BitFitOptions, attach)
