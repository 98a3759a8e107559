"""The transformer blocks of a model and what is inside them, found by their structure.

Blocks are the entries of the outermost lists of modules that hold an attention and a feed-forward part. In a
block, linear layers under a name with "attention" or "attn" belong to an attention, the others to the
feed-forward part; shapes and the order in which a forward pass calls them tell inputs from outputs. What this
leaves out: models whose feed-forward part is no pair of linear layers (mixtures of experts), which are
refused.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from hf_align.errors import UserError

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """One block. ``path``: in the model. ``attentions``: the path of the output layer of each attention, in
    the order of the forward pass. ``enters``: the first layer of the feed-forward part that sees its input;
    ``leaves``: its last layer. ``width``: of the states that flow through the blocks."""

    path: str
    attentions: tuple[str, ...]
    enters: str
    leaves: str
    width: int


def find_stacks(model: torch.nn.Module) -> list[tuple[str, torch.nn.ModuleList]]:
    """(path, list of blocks) of every stack: one in a decoder or encoder, two in an encoder-decoder model.

    Raises UserError where there is none.
    """
    found: list[tuple[str, torch.nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if (
            isinstance(module, torch.nn.ModuleList)
            and len(module)
            and not inside
            and all(map(_is_block, module))
        ):
            found.append((path, module))
    if not found:
        raise UserError(
            f"no transformer blocks were found in {type(model).__name__}: expected a list of modules that "
            "each hold an attention and linear layers beside it (mixtures of experts hold no such layers)"
        )
    return found


def find_blocks(model: Any) -> list[Block]:
    """Every block of every stack, in order. Raises UserError where one has another structure."""
    stacks = find_stacks(model)
    names = {id(module): name for name, module in model.named_modules()}
    linear = {
        id(layer): layer
        for _, stack in stacks
        for block in stack
        for layer in block.modules()
        if is_linear(layer)
    }
    order = [names[key] for key in _call_order(model, linear)]
    width = int(model.config.get_text_config().hidden_size)
    return [_block(model, f"{path}.{i}", order, width) for path, stack in stacks for i in range(len(stack))]


def is_linear(module: torch.nn.Module) -> bool:
    """bitsandbytes' layers are subclasses of Linear; GPT-2 has layers of its own."""
    return isinstance(module, torch.nn.Linear | Conv1D)


def features(layer: Any) -> tuple[int, int]:
    """(in, out) of a linear layer."""
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    return int(layer.in_features), int(layer.out_features)


def _is_block(module: torch.nn.Module) -> bool:
    linear = [name for name, layer in module.named_modules() if is_linear(layer)]
    attention = [name for name in linear if _ATTENTION.search(name)]
    return bool(attention) and len(attention) < len(linear)


def _block(model: torch.nn.Module, path: str, order: list[str], width: int) -> Block:
    mine = [name for name in order if name.startswith(f"{path}.")]
    groups: dict[str, list[str]] = {}
    others: list[str] = []
    for name in mine:
        parts = name.removeprefix(f"{path}.").split(".")
        at = next((i for i, part in enumerate(parts) if _ATTENTION.search(part)), None)
        if at is None:
            others.append(name)
        else:
            groups.setdefault(".".join(parts[: at + 1]), []).append(name)
    shapes = {name: features(model.get_submodule(name)) for name in mine}
    attentions = [names[-1] for names in groups.values() if shapes[names[-1]][1] == width]
    if not attentions or len(attentions) != len(groups):
        raise UserError(
            _unlike(model, path, "an attention has no last linear layer of that width", width, shapes)
        )
    enters = [name for name in others if shapes[name][0] == width]
    if len(others) < 2 or not enters or shapes[others[-1]][1] != width or enters[0] == others[-1]:
        raise UserError(
            _unlike(model, path, "its feed-forward part is no pair of linear layers", width, shapes)
        )
    block = model.get_submodule(path)
    wide = [name for name, p in block.named_parameters() if p.ndim > 2]
    between = [name for name in others[:-1] if shapes[name][1] == width and shapes[name][0] != width]
    if wide or between:
        raise UserError(
            _unlike(model, path, f"it has experts ({', '.join((wide or between)[:2])})", width, shapes)
        )
    return Block(path, tuple(attentions), enters[0], others[-1], width)


def _unlike(model: Any, path: str, why: str, width: int, shapes: dict[str, tuple[int, int]]) -> str:
    listed = ", ".join(f"{name.removeprefix(f'{path}.')} {i}x{o}" for name, (i, o) in shapes.items())
    return (
        f"{type(model).__name__}: block {path} cannot take bottleneck adapters: {why}. Width of the states: "
        f"{width}; linear layers that a forward pass calls: {listed or 'none'}"
    )


def _call_order(model: Any, layers: dict[int, torch.nn.Module]) -> list[int]:
    """Ids of those of ``layers`` that a forward pass calls, in the order of their last calls."""
    called: dict[int, None] = {}

    def note(key: int) -> Any:
        def hook(*_: Any) -> None:
            called.pop(key, None)
            called[key] = None

        return hook

    handles = [layer.register_forward_pre_hook(note(key)) for key, layer in layers.items()]
    ids = torch.full((1, 4), 1, dtype=torch.long, device=next(model.parameters()).device)
    inputs: dict[str, Any] = {"input_ids": ids}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    try:
        with torch.no_grad(), _evaluating(model):
            model.base_model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return list(called)


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
