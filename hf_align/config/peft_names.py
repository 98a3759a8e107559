"""The methods of the installed PEFT by name, and the options of each; PEFT is imported for options only.

Importing PEFT takes seconds, which the message about a misspelt adapter should not take: names are read from
its source.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_align.config.group import KeyProblem
from hf_align.errors import did_you_mean

PEFT_TYPES = {
    "lora": "LORA",
    "qlora": "LORA",
    "prefix": "PREFIX_TUNING",
    "prompt": "PROMPT_TUNING",
    "p_tuning": "P_TUNING",
    "ia3": "IA3",
    "ln_tuning": "LN_TUNING",
}
"""PEFT's names of the methods that have keys of their own here."""

OWN_KEYS = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
    "init_lora_weights": "init_lora_weights",
    "modules_to_save": "modules_to_save",
    "num_virtual_tokens": "num_virtual_tokens",
    "prefix_projection": "prefix_projection",
    "encoder_hidden_size": "encoder_hidden_size",
    "prompt_tuning_init_text": "prompt_tuning_init_text",
}
"""Options of PEFT that are keys of a recipe themselves, for the methods of ``PEFT_TYPES``."""

_IN_PARTS = {
    "eva_config": "eva_rho, eva_tau and the other keys that begin with eva_",
    "loftq_config": "init_lora_weights: loftq needs none",
}

_NOT_OPTIONS = (
    "task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode "
    "runtime_config"
).split()

_LEFT_OUT = {
    "XLORA": "it mixes adapters that exist already",
    "POLY": "it needs the number of a task with every row",
    "MULTITASK_PROMPT_TUNING": "it needs the number of a task with every row",
    "CPT": "it needs the kind of every token",
    "CARTRIDGE": "it is distilled from a text by a procedure of its own",
    "ADAPTION_PROMPT": "it replaces attention by code of its own, which packed rows do not reach",
}


@functools.cache
def peft_names() -> tuple[str, ...]:
    """Names, in lower case, of the methods of the installed PEFT that have no keys of their own here."""
    found = importlib.util.find_spec("peft")
    if found is None or found.origin is None:
        return ()
    source = Path(found.origin).parent / "utils" / "peft_types.py"
    names: list[str] = []
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "PeftType":
            names = [
                target.id
                for line in node.body
                if isinstance(line, ast.Assign)
                for target in line.targets
                if isinstance(target, ast.Name)
            ]
    known = {*PEFT_TYPES.values(), *_LEFT_OUT}
    return tuple(sorted(name.lower() for name in names if name not in known))


def why_left_out(name: str) -> str:
    """Why a method of PEFT cannot be used here; empty for all others."""
    return _LEFT_OUT.get(name.upper(), "")


def peft_config_class(name: str) -> Any:
    """PEFT's configuration class of an adapter by its name in a recipe. Imports PEFT."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    table: Mapping[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
    return table[PEFT_TYPES.get(name, name.upper())]


def check_peft_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`KeyProblem` for an option that PEFT's configuration of ``name`` lacks. Imports PEFT."""
    fields = [key for key in peft_config_class(name).__dataclass_fields__ if key not in _NOT_OPTIONS]
    for key in options:
        if key in OWN_KEYS and (name in PEFT_TYPES or key == "modules_to_save"):
            raise KeyProblem(("peft_options",), f"'{key}' has a key of its own; write {OWN_KEYS[key]}: …")
        if name in ("lora", "qlora") and key == "target_modules":
            raise KeyProblem(("peft_options",), "'target_modules' has a key of its own: lora_target_modules.")
        if name in ("lora", "qlora") and key in _IN_PARTS:
            raise KeyProblem(("peft_options",), f"'{key}' has keys of its own: {_IN_PARTS[key]}.")
        if key not in fields:
            raise KeyProblem(
                ("peft_options",),
                f"unknown option '{key}' of {name}.{did_you_mean(key, fields)} It has: {', '.join(fields)}.",
            )
