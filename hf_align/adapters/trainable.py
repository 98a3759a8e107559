"""Training chosen weights of the model itself: which parameters a list of patterns selects.

A pattern is a name with ``*`` and ``?``, or a shortcut: ``norms``, ``embeddings``, ``head``, ``biases``,
``last_k:N``. What this leaves out: saving, which writes the whole model as ever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch

from hf_align.errors import UserError, did_you_mean

SHORTCUTS = ("norms", "embeddings", "head", "biases", "last_k:N")


def train_only(model: Any, patterns: Sequence[str], *, head: Sequence[str] = ()) -> list[str]:
    """Freeze all parameters of ``model`` but those that ``patterns`` select; returns their names.

    ``head``: modules that are trained whatever the patterns say. Raises UserError for a pattern that selects
    nothing, with names that it may have meant.
    """
    every = dict(model.named_parameters())
    chosen: set[str] = set()
    for pattern in patterns:
        found = _select(model, every, pattern)
        if not found:
            raise UserError(
                f"trainable: '{pattern}' selects nothing in {type(model).__name__}. {_there(every, pattern)}"
            )
        chosen |= found
    chosen |= {name for name in every if set(name.split(".")) & set(head)}
    for name, parameter in every.items():
        parameter.requires_grad_(name in chosen)
    return [name for name in every if name in chosen]


def summarised(parameters: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters by name, those of all blocks together: ``name`` with ``*`` for the block, ``count`` of
    tensors and of ``parameters`` in them."""
    groups: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(parameter)
    return [
        {"name": name, "count": len(found), "parameters": sum(p.numel() for p in found)}
        for name, found in groups.items()
    ]


def _select(model: Any, every: dict[str, torch.nn.Parameter], pattern: str) -> set[str]:
    shortcut, _, number = pattern.partition(":")
    if shortcut == "last_k":
        return _last_blocks(model, every, pattern, number)
    if pattern == "norms":
        return _of_modules(model, every, [m for m in model.modules() if is_norm(m)])
    if pattern == "biases":
        return {name for name in every if name.rpartition(".")[2] == "bias"}
    if pattern == "embeddings":
        return _of_modules(model, every, [m for m in model.modules() if isinstance(m, torch.nn.Embedding)])
    if pattern == "head":
        return _head(model, every)
    return {name for name in every if fnmatchcase(name, pattern)}


def _last_blocks(model: Any, every: dict[str, torch.nn.Parameter], pattern: str, number: str) -> set[str]:
    from hf_align.adapters.blocks import find_stacks

    stacks = find_stacks(model)
    shortest = min(len(stack) for _, stack in stacks)
    if not number.isdigit() or not 1 <= int(number) <= shortest:
        raise UserError(
            f"trainable: found '{pattern}'; expected last_k:N with N from 1 to {shortest}, the blocks of "
            f"{type(model).__name__}"
        )
    return _of_modules(model, every, [block for _, stack in stacks for block in stack[-int(number) :]])


def is_norm(module: torch.nn.Module) -> bool:
    """By structure and name: transformers' own norms share no base class."""
    weight = getattr(module, "weight", None)
    vector = isinstance(weight, torch.nn.Parameter) and weight.ndim == 1
    return vector and "norm" in type(module).__name__.lower()


def _head(model: Any, every: dict[str, torch.nn.Parameter]) -> set[str]:
    """Everything outside the trunk, and the layer that gives the outputs where it shares its weights."""
    inside = set(map(id, model.base_model.parameters())) if model.base_model is not model else set()
    found = {name for name, parameter in every.items() if inside and id(parameter) not in inside}
    output = model.get_output_embeddings()
    return found | (_of_modules(model, every, [output]) if output is not None else set())


def _of_modules(
    model: torch.nn.Module, every: dict[str, torch.nn.Parameter], modules: Sequence[torch.nn.Module]
) -> set[str]:
    wanted = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name for name, parameter in every.items() if id(parameter) in wanted}


def _there(every: dict[str, torch.nn.Parameter], pattern: str) -> str:
    groups = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in every))
    near = did_you_mean(pattern, [*SHORTCUTS, *groups])
    listed = f"Weights of this model: {', '.join(groups)}; shortcuts: {', '.join(SHORTCUTS)}"
    return f"{near} {listed}".strip()
