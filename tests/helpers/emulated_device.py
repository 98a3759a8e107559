"""A machine with one CUDA GPU, as far as the placement of tensors goes, on a machine without any.

Inside :func:`emulated_cuda` PyTorch says that a GPU is there. Factories with ``device="cuda"``, ``to``,
``cuda`` and ``cpu`` make and move tensors that say they are on it (``emulated_tensors``), modules move in
place, gradients flow, and mixing devices raises what CUDA raises: also ``numpy`` of a tensor that is not on
the CPU, and a random generator of another device than what it draws. So a tensor that code leaves on the
wrong device is found on any machine.

What this cannot show: that a kernel exists or is right on a GPU, its numbers (they are the CPU's), which
operations its autocast casts (those of the CPU's are), streams, memory, speed, several devices, tensors that
``torch.load`` leaves where they were saved, and what compiled extensions (bitsandbytes) do.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

# Before a GPU is claimed: some libraries look for one when they are imported, and would call its driver.
import peft  # noqa: F401
import torch
import transformers.trainer  # noqa: F401
from accelerate.state import AcceleratorState
from helpers.emulated_tensors import CUDA, EmulatedTensor, Operations, call, held, is_cuda, placed, to
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "emulated GPU"
PEAK_MEMORY = 2**20
"""What PyTorch says of the memory of the emulated GPU."""


class EmulatedGenerator(torch.Generator):
    """A random generator that remembers the device it was made for, and draws the CPU's numbers."""

    made_for: torch.device

    def __new__(cls, device: Any = "cpu") -> EmulatedGenerator:
        made = super().__new__(cls, "cpu")
        made.made_for = CUDA if is_cuda(device) else torch.device("cpu")
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.made_for


class _Calls(TorchFunctionMode):
    """Sees every call of PyTorch from Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        special = _SPECIAL.get(func)
        if special is not None:
            return special(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        emulated = [tensor for tensor in tensors if isinstance(tensor, EmulatedTensor)]
        device, generator = kwargs.get("device"), kwargs.get("generator")
        if generator is not None:
            wanted = "cuda" if (emulated if device is None else is_cuda(device)) else "cpu"
            if generator.device.type != wanted:
                raise RuntimeError(
                    f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'"
                )
        with call(bool(emulated), len(emulated) == len(tensors)):
            if device is None:
                return func(*args, **kwargs)
            return _made(func, args, kwargs, emulated=is_cuda(device))


def _made(func: Any, args: Any, kwargs: dict[str, Any], *, emulated: bool) -> Any:
    """What a factory gives on the device that it is told, which is all that it takes from its arguments."""
    args, kwargs = held((args, kwargs))
    if not emulated:
        return func(*args, **kwargs)
    wants_grad = kwargs.pop("requires_grad", False)
    del kwargs["device"]
    made = tree_map_only(torch.Tensor, lambda one: EmulatedTensor(one.detach()), func(*args, **kwargs))
    return made.requires_grad_() if wants_grad else made


def _tensor(func: Any, data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``torch.tensor`` and ``torch.as_tensor``: a tensor stays where it is, numbers go where told."""
    device = kwargs.get("device")
    emulated = isinstance(data, EmulatedTensor) if device is None else is_cuda(device)
    if emulated:
        kwargs.pop("device", None)
    if func is torch.as_tensor and emulated and isinstance(data, EmulatedTensor):
        return to(data, kwargs.get("dtype") or data.dtype)
    wants_grad = kwargs.pop("requires_grad", False)
    made = func(held(data), *args, **kwargs)
    made = EmulatedTensor(made) if emulated else made
    return made.requires_grad_() if wants_grad else made  # type: ignore[no-any-return]


_SPECIAL: dict[Any, Callable[..., Any]] = {
    torch.Tensor.to: to,
    torch.Tensor.cpu: lambda tensor, *_, **__: placed(tensor, emulated=False),
    torch.Tensor.cuda: lambda tensor, *_, **__: placed(tensor, emulated=True),
    torch.Tensor.type_as: to,
    torch.tensor: functools.partial(_tensor, torch.tensor),
    torch.as_tensor: functools.partial(_tensor, torch.as_tensor),
}


@contextlib.contextmanager
def emulated_cuda(*, devices: int = 1, bf16: bool = False) -> Iterator[None]:
    """Inside, a GPU seems to be there, and is the default of whoever asks.

    ``devices``: how many PyTorch counts; all tensors are on the first. ``bf16``: whether it computes in
    bfloat16, which is then what precision "auto" comes to.
    """
    calls = _Calls()
    engine = torch.autograd._engine_run_backward

    def run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        emulated = any(isinstance(output, EmulatedTensor) for output in tree_leaves(outputs))
        # Python code that runs in it, such as a custom backward pass, is watched like any other.
        with calls, call(emulated, emulated):
            return engine(outputs, *args, **kwargs)

    swap = torch.__future__.get_swap_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for target, name, value in _patches(devices, bf16):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", run_backward))
        _forget_the_machine()
        stack.callback(_forget_the_machine)
        # Parameters keep their identity, as on a GPU.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        stack.enter_context(calls)
        stack.enter_context(Operations())
        yield


def _patches(devices: int, bf16: bool) -> Iterator[tuple[Any, str, Any]]:
    """What has to answer as with a GPU: (module, name, answer)."""
    capability = (8, 0) if bf16 else (7, 0)
    properties = SimpleNamespace(
        name=NAME, major=capability[0], minor=0, total_memory=2**34, multi_processor_count=1, warp_size=32
    )
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "device_count": devices,
        "current_device": 0,
        "get_device_name": NAME,
        "get_device_properties": properties,
        "get_device_capability": capability,
        "is_bf16_supported": bf16,
        "mem_get_info": (2**33, 2**34),
        "max_memory_allocated": PEAK_MEMORY,
        "memory_allocated": PEAK_MEMORY,
        "max_memory_reserved": PEAK_MEMORY,
        "memory_reserved": PEAK_MEMORY,
        "is_current_stream_capturing": False,
        "_exchange_device": 0,
        "_maybe_exchange_device": 0,
    }
    nothing = (
        "_lazy_init set_device empty_cache synchronize reset_peak_memory_stats manual_seed manual_seed_all"
    )
    answers |= dict.fromkeys(nothing.split())
    for name, answer in answers.items():
        yield torch.cuda, name, lambda *_, answer=answer, **__: answer
    for module in (torch.cuda, torch.cuda.random):
        yield module, "get_rng_state", lambda *_: torch.get_rng_state()
        yield module, "set_rng_state", _checked_state
        yield module, "get_rng_state_all", lambda: [torch.get_rng_state()] * devices
        yield module, "set_rng_state_all", lambda states: [_checked_state(state) for state in states]
    yield torch.accelerator, "is_available", lambda: True
    yield torch.accelerator, "device_count", lambda: devices
    yield torch.accelerator, "current_device_index", lambda: 0
    stream = SimpleNamespace(is_capturing=lambda: False, synchronize=lambda: None)
    yield torch.accelerator, "current_stream", lambda *_: stream
    yield torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("cuda")
    yield torch.autocast, "__enter__", functools.partialmethod(_enter_autocast, torch.autocast.__enter__)
    yield torch.autocast, "__exit__", functools.partialmethod(_leave_autocast, torch.autocast.__exit__)
    yield torch, "Generator", EmulatedGenerator
    yield torch, "load", functools.partial(_load, torch.load)


def _enter_autocast(self: Any, enter: Any) -> Any:
    """Autocast of the GPU is that of the CPU, whose operations compute the values."""
    entered = enter(self)
    if self.device == "cuda":
        self.of_values = torch.autocast("cpu", self.fast_dtype, enabled=self._enabled)
        enter(self.of_values)
    return entered


def _leave_autocast(self: Any, leave: Any, *error: Any) -> Any:
    if self.device == "cuda":
        leave(self.of_values, *error)
    return leave(self, *error)


def _checked_state(state: torch.Tensor, *_: Any) -> None:
    if state.device.type != "cpu" or state.dtype != torch.uint8:
        raise TypeError("RNG state must be a torch.ByteTensor")


def _load(load: Any, *args: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """``torch.load``, which leaves everything on the CPU where it is not told otherwise."""
    if map_location is None or not is_cuda(map_location):
        return load(*args, map_location=map_location, **kwargs)
    found = load(*args, map_location="cpu", **kwargs)
    return tree_map_only(torch.Tensor, lambda one: placed(one, emulated=True), found)


def _forget_the_machine() -> None:
    """Libraries remember which devices there are."""
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in (
        "transformers.utils.import_utils",
        "accelerate.utils.imports",
        "hf_align.modeling.attention.varlen",
    ):
        for known in vars(sys.modules.get(name, SimpleNamespace())).values():
            if callable(getattr(known, "cache_clear", None)):
                known.cache_clear()
