"""PEFT's methods: the configuration of each from the keys of a recipe, put on a base or loaded with it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_align.config import AdapterConfig
from hf_align.config.peft_names import PEFT_TYPES, peft_config_class
from hf_align.errors import UserError
from hf_align.modeling.virtual_tokens import install_virtual_tokens

Keys = Callable[[AdapterConfig, Any], dict[str, Any]]


def _lora(config: AdapterConfig, base: Any) -> dict[str, Any]:
    init: Any = config.init_lora_weights
    return {
        "r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": config.lora_target_modules,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        # loftq replaces these values afterwards: a base in 4 bits stays as it is.
        "init_lora_weights": True if init in ("default", "loftq") else init,
    }


def _prefix(config: AdapterConfig, base: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "num_virtual_tokens": config.num_virtual_tokens,
        "prefix_projection": config.prefix_projection,
    }
    return keys | _encoder(config)


def _prompt(config: AdapterConfig, base: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {"num_virtual_tokens": config.num_virtual_tokens}
    if config.prompt_tuning_init_text is not None:
        keys |= {
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": config.prompt_tuning_init_text,
            "tokenizer_name_or_path": base.name_or_path,
        }
    return keys


def _p_tuning(config: AdapterConfig, base: Any) -> dict[str, Any]:
    return {"num_virtual_tokens": config.num_virtual_tokens, **_encoder(config)}


def _encoder(config: AdapterConfig) -> dict[str, Any]:
    return {} if config.encoder_hidden_size is None else {"encoder_hidden_size": config.encoder_hidden_size}


def _ln_tuning(config: AdapterConfig, base: Any) -> dict[str, Any]:
    """Every norm of the trunk; PEFT's own list knows some architectures by name, and takes the same there."""
    from hf_align.adapters.trainable import is_norm

    return {"target_modules": [name for name, module in base.named_modules() if is_norm(module)]}


_KEYS: dict[str, Keys] = {
    "lora": _lora,
    "qlora": _lora,
    "prefix": _prefix,
    "prompt": _prompt,
    "p_tuning": _p_tuning,
    "ln_tuning": _ln_tuning,
}
"""What each method takes from keys of its own; a method that is not here takes ``peft_options`` alone."""


def apply_peft(
    model: Any, config: AdapterConfig, *, task_type: str, modules_to_save: Sequence[str]
) -> torch.nn.Module:
    """A ``PeftModel`` around ``model`` with a frozen base.

    Raises UserError where PEFT refuses, with the modules that are there.
    """
    from peft import get_peft_model

    linear = linear_names(model)
    chosen = peft_config_class(config.adapter)
    keys = _KEYS[config.adapter](config, model) if config.adapter in _KEYS else {}
    keys |= config.peft_options or {}
    if modules_to_save and "modules_to_save" in chosen.__dataclass_fields__:
        keys["modules_to_save"] = list(modules_to_save)
    key = "lora_target_modules" if PEFT_TYPES.get(config.adapter) == "LORA" else "peft_options"
    named = config.lora_target_modules if key == "lora_target_modules" else config.peft_options
    try:
        with quiet_peft():
            adapted = get_peft_model(model, chosen(task_type=task_type, **keys))
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError) as error:
        detail = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"{key}: {named!r} does not fit {type(model).__name__} with adapter: {config.adapter} "
            f"({detail}). Linear layers of this model: {', '.join(linear)}"
        ) from error
    _check_targets(adapted, config, type(model).__name__, linear)
    if config.init_lora_weights == "loftq":
        _correct_rounding(adapted, model)
    install_virtual_tokens(adapted)
    return adapted


def load_peft(base: Any, folder: Path, shapes: Collection[str], *, place: str) -> Any:
    """``base`` with the adapter in ``folder`` on it, frozen. ``shapes``: names of the weights in its file.

    Raises UserError where the adapter does not fit the base, in words that follow ``place``.
    """
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with quiet_peft():
            # Without this, weights that the file lacks would stay as they were drawn.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            model: Any = PeftModel.from_pretrained(base, str(folder)).eval()
    except KeyError as error:  # of a module that is saved whole, such as the head of a reward model
        raise UserError(f"{place}: the adapter's file lacks {error}") from error
    except (RuntimeError, ValueError, TypeError, UserWarning) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())[:400]}") from error
    # PEFT passes over weights that the base has no place for.
    unused = sorted(set(shapes) - set(get_peft_model_state_dict(model, save_embedding_layers=True)))
    if unused:
        raise UserError(
            f"{place}: the base has no place for {len(unused)} of its weights, such as {unused[0]}"
        )
    install_virtual_tokens(model)
    return model.requires_grad_(False)


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Without warnings that say nothing to the user."""
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that is about to go; nobody here can change that.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        # Of norms, whose widths PEFT does not know; nothing depends on them.
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        yield


def linear_names(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of the linear layers; bitsandbytes' are subclasses of Linear."""
    from transformers.pytorch_utils import Conv1D

    found = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
    return sorted({name.split(".")[-1] for name in found})


def _check_targets(adapted: Any, config: AdapterConfig, model: str, linear: Sequence[str]) -> None:
    """PEFT passes over names in a list that match nothing, as long as another one matches."""
    wanted = config.lora_target_modules
    if config.adapter not in ("lora", "qlora") or isinstance(wanted, str):
        return
    hit = adapted.base_model.targeted_module_names
    lost = [name for name in wanted if not any(f".{found}".endswith(f".{name}") for found in hit)]
    if lost:
        from hf_align.errors import did_you_mean

        raise UserError(
            f"lora_target_modules: {wanted!r} does not fit {model}: no module is called {', '.join(lost)}."
            f"{did_you_mean(lost[0], linear)} Linear layers of this model: {', '.join(linear)}"
        )


def _correct_rounding(adapted: Any, model: Any) -> None:
    """LoftQ (Li et al. 2023, arXiv 2310.08659) on a base that is quantised already: the update begins as the
    low-rank part of what quantisation took away."""
    from peft import replace_lora_weights_loftq

    if not torch.cuda.is_available():
        raise UserError(
            "init_lora_weights: PEFT computes loftq on CUDA only, and there is none here; leave it out, or "
            "take pissa on a base that is not quantised"
        )
    try:
        replace_lora_weights_loftq(adapted, model_path=model.name_or_path)
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(
            f"init_lora_weights: loftq needs the unquantised weights of '{model.name_or_path}' on disk as "
            f"safetensors: {str(error).splitlines()[0]}"
        ) from error
