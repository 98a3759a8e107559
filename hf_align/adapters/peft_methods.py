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
from hf_align.modeling.loading import first_line
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
        **({"eva_config": _eva_config(config)} if init == "eva" else {}),
    }


def _eva_config(config: AdapterConfig) -> Any:
    from peft import EvaConfig

    names = ("rho", "tau", "use_label_mask", "whiten", "adjust_scaling_factors")
    return EvaConfig(**{name: getattr(config, f"eva_{name}") for name in names})


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
    model: Any,
    config: AdapterConfig,
    *,
    task_type: str,
    modules_to_save: Sequence[str],
    new_rows: Sequence[int] = (),
) -> torch.nn.Module:
    """A ``PeftModel`` around ``model`` with a frozen base.

    Raises UserError where PEFT refuses, with the modules that are there.
    """
    from peft import get_peft_model

    linear = linear_names(model)
    chosen = peft_config_class(config.adapter)
    keys = _KEYS[config.adapter](config, model) if config.adapter in _KEYS else {}
    keys |= config.peft_options or {}
    if config.train_new_tokens or new_rows:
        rows = [*(_listed_rows(model) if config.train_new_tokens else []), *new_rows]
        name = "additional_special_tokens" if new_rows else "train_new_tokens"
        keys["trainable_token_indices"] = _trained_rows(model, rows, modules_to_save, name)
    if modules_to_save and "modules_to_save" in chosen.__dataclass_fields__:
        keys["modules_to_save"] = list(modules_to_save)
    key = "lora_target_modules" if PEFT_TYPES.get(config.adapter) == "LORA" else "peft_options"
    named = config.lora_target_modules if key == "lora_target_modules" else config.peft_options
    try:
        with quiet_peft():
            adapted = get_peft_model(model, chosen(task_type=task_type, **keys))
    except ImportError as error:
        raise UserError(
            f"adapter: {config.adapter} needs a package that is not installed: {first_line(error)}"
        ) from error
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{key}: {named!r} does not fit {type(model).__name__} with adapter: {config.adapter} "
            f"({first_line(error)}). Linear layers of this model: {', '.join(linear)}"
        ) from error
    _check_targets(adapted, config, type(model).__name__, linear)
    if config.init_lora_weights == "loftq":
        from hf_align.adapters.loftq import correct_rounding

        correct_rounding(adapted)
    if not any(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad):
        raise UserError(
            f"adapter: {config.adapter} trains nothing with peft_options: {config.peft_options!r}; see "
            f"PEFT's documentation of {chosen.__name__} for what it has to be told"
        )
    install_virtual_tokens(adapted)
    return adapted


def _listed_rows(base: Any) -> list[int]:
    """The rows of the tokens that a base was extended by. Raises UserError where it has none."""
    from hf_align.modeling.new_tokens import new_token_ids

    try:
        rows = new_token_ids(base.name_or_path)
    except UserError as error:
        raise UserError(
            f"train_new_tokens: '{base.name_or_path}' has no list of new tokens: {error}"
        ) from error
    count = base.get_input_embeddings().weight.shape[0]
    if not rows or rows[-1] >= count:
        raise UserError(
            f"train_new_tokens: '{base.name_or_path}' names {len(rows)} new tokens up to the id "
            f"{rows[-1] if rows else 'none'}, and has embeddings for {count:,}"
        )
    return rows


def _trained_rows(
    base: Any, rows: list[int], modules_to_save: Sequence[str], key: str
) -> list[int] | dict[str, list[int]]:
    """Rows of new tokens, as ``trainable_token_indices`` takes them; ``key``: that of the recipe.

    A head that has weights of its own is named beside the embeddings; a tied one follows them.

    Raises UserError where these rows cannot be trained by themselves.
    """
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    names = {name: module for name, module in base.named_modules() if module in (embedding, head)}
    whole = [saved for saved in modules_to_save if any(f".{n}".endswith(f".{saved}") for n in names)]
    if whole:
        raise UserError(f"{key}: modules_to_save trains all rows of {', '.join(whole)}; use one of the two")
    if head is not None and getattr(head, "bias", None) is not None:
        raise UserError(
            f"{key}: the head of {type(base).__name__} has a bias, which PEFT leaves out where it "
            "trains single rows; train whole embeddings with modules_to_save: "
            f"[{', '.join(name.rpartition('.')[2] for name in names)}]"
        )
    apart = head is not None and head.weight is not embedding.weight
    if apart and base.config.is_encoder_decoder:
        raise UserError(
            f"{key}: the stacks of {type(base).__name__} share their embeddings and the head has "
            "weights of its own, which PEFT does not take apart; train all weights"
        )
    return dict.fromkeys(names, rows) if apart else rows


def load_peft(base: Any, folder: Path, shapes: Collection[str], *, place: str) -> Any:
    """``base`` with the adapter in ``folder`` on it, frozen. ``shapes``: names of the weights in its file.

    Raises UserError where the adapter does not fit the base, in words that follow ``place``.
    """
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with quiet_peft():
            # Without this, weights that the file lacks would stay as they were drawn.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            # To where the base is; PEFT takes a GPU wherever there is one.
            where = str(base.device)
            model: Any = PeftModel.from_pretrained(base, str(folder), torch_device=where).eval()
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
        # EVA is computed on the model as it is loaded for training, with its weights.
        warnings.filterwarnings("ignore", message="lora with eva initialization used with low_cpu_mem_usage")
        # Of norms, whose widths PEFT does not know; nothing depends on them.
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        yield


def linear_names(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of the linear layers; bitsandbytes' are subclasses of Linear."""
    from transformers.pytorch_utils import Conv1D

    found = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
    return sorted({name.split(".")[-1] for name in found})


def _check_targets(adapted: Any, config: AdapterConfig, model: str, linear: Sequence[str]) -> None:
    """PEFT passes over names in a list that match nothing, as long as another one matches, and takes the
    weights of GPT-2's own kind of layers for those of others."""
    from transformers.pytorch_utils import Conv1D

    layers = (m for m in adapted.modules() if isinstance(getattr(m, "base_layer", None), Conv1D))
    if config.init_lora_weights == "olora" and next(layers, None) is not None:
        raise UserError(
            f"init_lora_weights: olora is for linear layers whose weights are (out, in); those of {model} "
            "(Conv1D, as in GPT-2) are (in, out), which PEFT's olora does not turn around. Use pissa or "
            "default"
        )
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
