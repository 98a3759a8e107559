"""Tokenizers and causal language models from a local folder or a hub id.

Remote code is off unless the recipe turns it on, and weights are read from safetensors only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import ModelConfig
from hf_align.data.chat_format import resolve_chat_template
from hf_align.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hf_align.modeling.precision import Precision

logger = logging.getLogger(__name__)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of ``tokenizer_name_or_path`` or, without one, of the model; needs no weights.

    A shipped or given chat template replaces the tokenizer's own. A tokenizer without a pad token gets its
    end-of-sequence token for it: padding is told apart by position here, never by id.
    Raises UserError where it cannot be loaded.
    """
    from transformers import AutoTokenizer

    key = "tokenizer_name_or_path" if config.tokenizer_name_or_path else "model_name_or_path"
    name = config.tokenizer_name_or_path or config.model_name_or_path
    _check_local(key, name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: no tokenizer could be loaded from '{name}': {_first_line(error)}") from error
    if config.chat_template_path is not None:
        tokenizer.chat_template = resolve_chat_template(config.chat_template_path)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{key}: the tokenizer of '{name}' has neither a pad nor an end-of-sequence token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    config: ModelConfig, *, trainable_base: bool, precision: Precision, use_cpu: bool
) -> PreTrainedModel:
    """A causal language model for training.

    ``dtype: auto`` keeps float32 weights where the base itself is trained, since an optimizer step is
    often smaller than half precision resolves, and loads a frozen base in the precision of the
    computation. Quantised models come with bitsandbytes' inference shortcut for CPUs switched off.
    Raises UserError where the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from hf_align.modeling.quantization import prepare_quantized, quantization_config

    name = config.model_name_or_path
    _check_local("model_name_or_path", name)
    options: dict[str, Any] = {}
    quantization = quantization_config(config, precision)
    if quantization is not None:
        options["quantization_config"] = quantization
        options["device_map"] = {"": _device(use_cpu)}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
            dtype=_dtype(config, trainable_base, precision),
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path: no causal language model could be loaded from '{name}': "
            f"{_first_line(error)}"
        ) from error
    if quantization is not None:
        prepare_quantized(model)
    model.config.use_cache = False
    if not all(torch.isfinite(p).all() for p in model.parameters() if p.is_floating_point()):
        raise UserError(f"model_name_or_path: '{name}' holds weights that are not finite numbers")
    return model


def _dtype(config: ModelConfig, trainable_base: bool, precision: Precision) -> torch.dtype:
    import torch

    from hf_align.modeling.precision import compute_dtype

    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    return torch.float32 if trainable_base else compute_dtype(precision)


def _device(use_cpu: bool) -> str | int:
    import os

    import torch

    if use_cpu or not torch.cuda.is_available():
        return "cpu"
    return int(os.environ.get("LOCAL_RANK", "0"))


def _check_local(key: str, name: str) -> None:
    """A name that can only be a folder must be there; anything else may be a hub id."""
    path = Path(name)
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    missing = not path.exists() and (looks_local or path.parent.is_dir())
    if missing and ("/" in name or (looks_local and "\\" in name)):
        hint = " `make model` builds the default model." if path.parent.name == "models" else ""
        raise UserError(f"{key}: the folder '{name}' does not exist.{hint}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
