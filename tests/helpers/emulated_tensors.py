"""Tensors that say they are on the device "cuda:0", and operations on them that insist on it.

An :class:`EmulatedTensor` holds an ordinary CPU tensor with its values and reports the device ``cuda:0``.
Every operation on it runs on those values, after it has been checked as CUDA would check it: tensors of two
devices do not meet, but for a CPU tensor without dimensions in an element-wise operation, a CPU index, and
copies.
What switches this on is in ``emulated_device``, which also says what it cannot show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)

_INDEXED = ("index", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put", "_index_put_impl_")
_SCALARS_TOO = ("masked_fill", "masked_fill_", "fill", "fill_", "where", "clamp", "lerp", "lerp_")
"""Operations that take a CPU tensor without dimensions, beside those that PyTorch marks as element-wise."""
_CHANGES_SHAPE = ("resize_", "set_", "squeeze_", "unsqueeze_", "t_", "transpose_", "swapdims_", "as_strided_")

_calls: list[tuple[bool, bool]] = []
"""The Python calls that are running, innermost last: (an argument is emulated, all of them are).

PyTorch's own C++ code asks tensors for their device, where it sees the CPU: what it makes for itself inside a
call whose tensors are all emulated belongs to them. The same holds in a backward pass.
"""


class EmulatedTensor(torch.Tensor):
    """``held``: the values, an ordinary CPU tensor without a graph."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> EmulatedTensor:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device="cpu",
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, new: torch.Tensor) -> None:
        if not isinstance(new, EmulatedTensor):
            raise NotImplementedError("the emulation cannot move a tensor by assigning to its data")
        torch.Tensor.data.__set__(self, new)  # type: ignore[attr-defined]
        self.held = new.held

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        return to(self, *args, **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return placed(self, emulated=False)

    def cuda(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self

    def get_device(self) -> int:
        return 0

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                "host memory first."
            )
        return self.held.numpy(force=True)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def pin_memory(self, *_: Any) -> torch.Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def is_pinned(self, *_: Any) -> bool:
        return False

    def tolist(self) -> Any:
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> EmulatedTensor:
        if id(self) not in memo:
            copied = EmulatedTensor(self.held.clone()).requires_grad_(self.requires_grad)
            copied.__dict__.update({key: value for key, value in self.__dict__.items() if key != "held"})
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Files hold the values; torch.load puts them where it is told.
        return self.held.detach().__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"emulated on cuda:0: {self.held!r}"


class Operations(TorchDispatchMode):
    """Sees every operation, also those that PyTorch's own code calls."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextlib.contextmanager
def call(emulated: bool, alone: bool) -> Iterator[None]:
    """A call from Python: whether any of its tensors is emulated, and whether all are."""
    _calls.append((emulated, alone))
    try:
        yield
    finally:
        _calls.pop()


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation on the values, checked as CUDA would."""
    with torch._C.DisableTorchFunction():
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        emulated = any(isinstance(tensor, EmulatedTensor) for tensor in tensors)
        inside, alone = _calls[-1] if _calls else (False, False)
        of_emulated = inside and alone
        if emulated and not of_emulated:
            _check(func, args, tensors)
        wanted = kwargs.get("device")
        if func is aten.copy_.default:
            emulated = isinstance(args[0], EmulatedTensor)
        elif wanted is not None and wanted.type == "cuda":
            emulated, kwargs = True, {**kwargs, "device": torch.device("cpu")}
        elif not tensors:
            emulated = of_emulated
        if emulated and func.overloadpacket.__name__ in _CHANGES_SHAPE:
            raise NotImplementedError(f"the emulation does not know {func}")
        given = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, EmulatedTensor)}
        args, kwargs = held((args, kwargs))
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False  # there is nothing to pin for
        result = func(*args, **kwargs)
        if not emulated:
            return result
        # An operation in place gives back the tensor itself.
        return tree_map_only(
            torch.Tensor, lambda one: given[id(one)] if id(one) in given else EmulatedTensor(one), result
        )


def held(values: Any) -> Any:
    """The same lists, tuples and dictionaries with the CPU tensors that emulated ones hold."""
    return tree_map_only(EmulatedTensor, lambda tensor: tensor.held, values)


def _check(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raise RuntimeError where tensors of two devices meet that may not."""
    plain = [tensor for tensor in tensors if not isinstance(tensor, EmulatedTensor)]
    name = func.overloadpacket.__name__
    if not plain or func is aten.copy_.default:
        return
    if name in _INDEXED:
        if not isinstance(args[0], EmulatedTensor):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        values = args[2] if len(args) > 2 else None
        if isinstance(values, torch.Tensor) and not isinstance(values, EmulatedTensor) and values.ndim:
            raise mixed(str(func))
        return
    arguments = zip(args, func._schema.arguments, strict=False)
    changed = [value for value, argument in arguments if _written(argument)]
    takes_scalars = torch.Tag.pointwise in func.tags or name in _SCALARS_TOO or name.startswith("_foreach_")
    if not takes_scalars or any(tensor.ndim for tensor in plain):
        raise mixed(str(func))
    if any(tensor is one for tensor in plain for one in changed):
        raise mixed(f"{func}, which writes to the one on the CPU")


def _written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def mixed(what: str) -> RuntimeError:
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
        f"(emulated; in {what})"
    )


class _Move(torch.autograd.Function):
    """A copy on the other device; the gradient comes back the same way."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, emulated: bool) -> torch.Tensor:
        copied = held(tensor).detach().clone()
        return EmulatedTensor(copied) if emulated else copied  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return placed(grad, emulated=not isinstance(grad, EmulatedTensor)), None


def placed(tensor: torch.Tensor, *, emulated: bool) -> torch.Tensor:
    """The tensor itself, or a copy on the other device."""
    if isinstance(tensor, EmulatedTensor) == emulated:
        return tensor
    if tensor.device.type == "meta":
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    return _Move.apply(tensor, emulated)  # type: ignore[no-any-return]


def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``Tensor.to`` in all its forms."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    if args and isinstance(args[0], torch.Tensor):
        device, dtype = args[0].device, args[0].dtype
    else:
        for one in args:
            if isinstance(one, torch.dtype):
                dtype = one
            elif isinstance(one, str | int | torch.device) and not isinstance(one, bool):
                device = one
    kwargs.pop("non_blocking", None)
    if device is not None and not is_cuda(device) and torch.device(device).type == "meta":
        return torch.Tensor.to(held(tensor), "meta", dtype or tensor.dtype)
    result = tensor if device is None else placed(tensor, emulated=is_cuda(device))
    copy = kwargs.pop("copy", False) and result is tensor
    return torch.Tensor.to(result, dtype or tensor.dtype, copy=copy, **kwargs)


def is_cuda(device: Any) -> bool:
    """Whether ``device``, in any form that PyTorch takes, is the emulated one."""
    return isinstance(device, int) or torch.device(device).type == "cuda"
