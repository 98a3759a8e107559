"""Weights in the form in which many small matrix products are fast, for as long as a CPU samples.

A step of sampling multiplies few rows with every weight. oneDNN, the library behind PyTorch's CPU products,
reads weights in blocks and arranges them anew for every product, unless they have been arranged before; and a
low-rank update is two more products and several element-wise steps beside each of the base's. So weights are
arranged once, with the update added. What this leaves out: GPUs, quantised weights, and updates that are more
than a product of two matrices (DoRA), which stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

WORTH_STEPS = 24
"""Steps of sampling from which on arranging pays: it costs about as much as it saves in so many."""


@contextlib.contextmanager
def weights_for_decoding(model: torch.nn.Module, *, rows: int, steps: int) -> Iterator[None]:
    """Let the linear layers of ``model`` use arranged weights. ``rows``: of a product. ``steps``: forward
    passes that are going to be made.

    Takes the memory of a second copy of the weights in the type of the computation. Products of base weights
    come out the same to the last bit; those with a low-rank update to the rounding of the sum. The weights
    must not change meanwhile.
    """
    if steps < WORTH_STEPS or next(model.parameters()).device.type != "cpu":
        yield
        return
    changed: list[torch.nn.Module] = []
    try:
        with torch.no_grad():
            for module, weight, bias in _linear_weights(model):
                module.forward = _arranged(weight, bias, rows)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _linear_weights(
    model: torch.nn.Module,
) -> Iterator[tuple[torch.nn.Module, torch.Tensor, torch.Tensor | None]]:
    """(module, weight (out, in) that it amounts to, bias) for all that can be replaced, outermost first."""
    done: set[torch.nn.Module] = set()
    for module in model.modules():
        # Accelerate's hooks sit in the same place.
        if module in done or "forward" in vars(module):
            continue
        if type(module) is torch.nn.Linear:
            yield module, module.weight, module.bias
        elif (update := _update(module)) is not None:
            base: Any = module.base_layer
            done.update(module.modules())
            yield module, base.weight + update.to(base.weight.dtype), base.bias


def _update(module: Any) -> torch.Tensor | None:
    """What the active adapters of a LoRA layer add to its weight, or None where that is not all they do."""
    from peft.tuners.lora.layer import Linear as LoraLinear

    if type(module) is not LoraLinear or type(module.base_layer) is not torch.nn.Linear:
        return None
    names = [name for name in module.active_adapters if name in module.lora_A]
    plain = not (module.merged or module.disable_adapters) and not any(
        module.use_dora.get(name) or module.lora_bias.get(name) or name in module.lora_variant
        for name in names
    )
    if not names or not plain:
        return None
    return sum((module.get_delta_weight(name) for name in names), torch.zeros(()))


def _arranged(weight: torch.Tensor, bias: torch.Tensor | None, rows: int) -> Any:
    """A linear layer's forward with this ``weight``."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
    weight = weight.detach().to(dtype).contiguous()
    bias = None if bias is None else bias.detach().to(dtype)
    multiply: Any = functional.linear
    if _onednn_agrees(dtype):
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        multiply = _multiply_arranged
    return lambda states: multiply(states.to(dtype), weight, bias)


def _multiply_arranged(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return result


@functools.cache
def _onednn_agrees(dtype: torch.dtype) -> bool:
    """Whether the operations exist, which are PyTorch's own and not documented, and give what it gives."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    weight, states = (torch.randn(n, 24, generator=generator).to(dtype) for n in (40, 5))
    bias = torch.randn(40, generator=generator).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        try:
            arranged = torch.ops.mkldnn._reorder_linear_weight(weight, 5)
            found = _multiply_arranged(states, arranged, bias)
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return False
        expected = functional.linear(states, weight, bias)
    return torch.allclose(found.float(), expected.float(), rtol=1e-2 if dtype != torch.float32 else 1e-5)
