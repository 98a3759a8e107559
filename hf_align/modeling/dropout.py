"""Switch off what makes a model's forward pass in training random.

Preference losses compare two answers, and a policy with its reference: noise that differs between the two is
noise in the loss. What this leaves out: the dropout of adapters, which belongs to how they are trained. So it
is called before an adapter is put on.
"""

from __future__ import annotations

from typing import Any

import torch

_NAMES = ("drop", "jitter")
"""In the names of all such settings: attn_pdrop, hidden_dropout_prob, layerdrop, jitter_noise."""


def disable_dropout(model: torch.nn.Module) -> dict[str, float]:
    """Set every dropout of ``model`` to 0, in place; returns the settings that were above 0, by name.

    Dropout modules, numbers that modules keep for functional dropout (``attention_dropout`` of Llama) and
    the configuration, which some families read in each forward pass (GPT-J, GPT-Neo, Falcon). The
    configuration is saved with the model: it says that the model was trained without dropout.
    """
    found: dict[str, float] = {}
    configs: dict[int, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            if module.p > 0:
                _note(found, name.rpartition(".")[2], module.p)
            module.p = 0.0
        _zero(module, found)
        config = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            configs[id(config)] = config
    while configs:
        _, config = configs.popitem()
        _zero(config, found)
        # A configuration may hold others, of its text part or of its attention.
        configs |= {id(inner): inner for inner in vars(config).values() if hasattr(inner, "to_dict")}
    return found


def _zero(holder: Any, found: dict[str, float]) -> None:
    """Set the random settings among the plain numbers that ``holder`` keeps to 0."""
    for name, value in list(vars(holder).items()):
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            continue
        if any(part in name for part in _NAMES):
            _note(found, name, float(value))
            setattr(holder, name, 0.0)


def _note(found: dict[str, float], name: str, value: float) -> None:
    found[name] = max(value, found.get(name, 0.0))
