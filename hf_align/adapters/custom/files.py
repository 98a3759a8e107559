"""Adapters of our own on disk: ``adapter_config.json`` and ``adapter_model.safetensors``, as PEFT names them.

The weights' file holds what was added, under the path of the module that it was added to, and the modules
that were trained in full; nothing of the base.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper

from hf_align.adapters.custom.layers import PREFIX, CustomConfig, own_layers, register
from hf_align.adapters.fingerprint import note_other_format, number_format, other_base
from hf_align.adapters.methods import METHODS
from hf_align.errors import UserError, did_you_mean

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def adapter_weights(model: PeftModel, name: str) -> dict[str, str]:
    """Saved name and name in ``model.state_dict()`` of every weight that belongs to the adapter ``name``."""
    found: dict[str, str] = {}
    base = model.get_base_model()
    outer = "base_model.model."
    for path, layer in own_layers(base).items():
        if name in layer.added:
            for key in layer.added[name].state_dict():
                found[f"{_plain(path)}.{key}"] = f"{outer}{path}.added.{name}.{key}"
    for path, module in base.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and name in module.modules_to_save:
            for key in module.modules_to_save[name].state_dict():
                found[f"{_plain(path)}.{key}"] = f"{outer}{path}.modules_to_save.{name}.{key}"
    return found


def save_adapter(
    model: PeftModel,
    name: str,
    folder: str | os.PathLike[str],
    *,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    write: bool = True,
) -> None:
    """Write the adapter ``name`` to ``folder``, or to a folder of its name in it if it is not ``default``.

    ``state_dict``: of the whole model, where the caller has gathered it from several processes. Without
    ``write`` nothing is written (every process but the main one).
    """
    if not write:
        return
    from safetensors.torch import save_file

    place = Path(folder) if name == "default" else Path(folder) / name
    place.mkdir(parents=True, exist_ok=True)
    state = model.state_dict() if state_dict is None else state_dict
    weights = {
        key: state[inside].detach().cpu().contiguous().clone()
        for key, inside in adapter_weights(model, name).items()
    }
    save_file(weights, place / WEIGHTS_FILE, metadata={"format": "pt"})
    config = copy.deepcopy(model.peft_config[name])
    config.inference_mode = True
    config.save_pretrained(str(place))


def is_own(folder: str | os.PathLike[str]) -> bool:
    """Whether the adapter in ``folder`` is of one of our methods."""
    return str(_json(folder).get("peft_type")).startswith(PREFIX)


def _plain(path: str) -> str:
    return ".".join(part for part in path.split(".") if part != "base_layer")


def _json(folder: str | os.PathLike[str]) -> dict[str, Any]:
    import json

    path = Path(folder) / CONFIG_FILE
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: this file cannot be read as JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def read_config(folder: str | os.PathLike[str]) -> CustomConfig:
    """The configuration of the adapter in ``folder``. Raises UserError where this release cannot use it."""
    path = Path(folder) / CONFIG_FILE
    content = _json(folder)
    fields = CustomConfig.__dataclass_fields__
    config = CustomConfig(**{key: value for key, value in content.items() if key in fields})
    if config.method not in METHODS:
        raise UserError(
            f"{path}: peft_type is {content.get('peft_type')!r}, which is none of this release's methods: "
            f"{', '.join(METHODS)}.{did_you_mean(config.method, METHODS)}"
        )
    method = METHODS[config.method]
    register(method)
    try:
        method.options(**config.options)
    except TypeError as error:
        raise UserError(f"{path}: the options of {config.method} do not fit this release: {error}") from error
    return config


def check_base(config: CustomConfig, base: Any, folder: str | os.PathLike[str]) -> None:
    """Raise UserError where the adapter in ``folder`` was trained on another base."""
    reason = other_base(config.base or {}, base, left_out=config.modules_to_save or ())
    if reason:
        raise UserError(
            f"{folder}: this adapter was trained on another base than '{getattr(base, 'name_or_path', '')}' "
            f"({type(base).__name__}): {reason}. It was trained on '{config.base_model_name_or_path}'."
        )
    known = (config.base or {}).get("format")
    if known is not None:
        note_other_format(known, number_format(base), folder)


def read_weights(model: PeftModel, folder: str | os.PathLike[str], name: str) -> None:
    """Copy the saved weights into the adapter ``name``. Raises UserError where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / WEIGHTS_FILE
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: this file cannot be read as safetensors: {error}") from error
    places = adapter_weights(model, name)
    state = model.state_dict()
    wrong = sorted(set(places) ^ set(saved)) or [
        key for key, inside in places.items() if state[inside].shape != saved[key].shape
    ]
    if wrong:
        raise UserError(
            f"{path}: these weights do not fit the adapter on this base; {len(wrong)} differ in name or "
            f"shape, such as {wrong[0]}"
        )
    with torch.no_grad():
        for key, inside in places.items():
            state[inside].copy_(saved[key])
