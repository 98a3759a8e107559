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
    # A broken tokenizer.json surfaces as a bare Exception from the tokenizers library.
    except Exception as error:
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
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from hf_align.modeling.quantization import prepare_quantized, quantization_config

    name = config.model_name_or_path
    _check_local("model_name_or_path", name)
    if (Path(name) / "adapter_config.json").is_file():
        raise UserError(
            f"model_name_or_path: '{name}' holds an adapter, not a whole model; training would start without "
            f"it. Merge it first (hf-align merge --model_name_or_path {name} --output_dir …), or name its "
            "base model."
        )
    options: dict[str, Any] = {}
    quantization = quantization_config(config, precision)
    if quantization is not None:
        options["quantization_config"] = quantization
        options["device_map"] = {"": _device(use_cpu)}
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
            dtype=_dtype(config, trainable_base, precision),
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"model_name_or_path: no causal language model could be loaded from '{name}': "
            f"{_first_line(error)}"
        ) from error
    _check_complete(name, loaded)
    if quantization is not None:
        prepare_quantized(model)
    if not all(torch.isfinite(p).all() for p in model.parameters() if p.is_floating_point()):
        raise UserError(f"model_name_or_path: '{name}' holds weights that are not finite numbers")
    return model


def check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError where the tokenizer has tokens that the model has no embedding for."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer in '{tokenizer.name_or_path}' has {len(tokenizer):,} tokens, and the model has "
            f"embeddings for {rows:,}: the weights of the new tokens were not saved with the adapter, or "
            "this is another model's tokenizer (see tokenizer_name_or_path)"
        )


def check_context(model: Any, longest: int) -> None:
    """Raise UserError where ``longest``, the tokens of the longest row, exceeds the model's positions."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < longest:
        raise UserError(
            f"max_length: rows have up to {longest:,} tokens, and the model was made for {limit:,} "
            f"positions; set max_length to {limit} or less, with overlong: drop or truncate"
        )


def _check_complete(name: str, loaded: dict[str, Any]) -> None:
    """transformers fills weights that a file lacks with random numbers, which would be trained unseen."""
    missing = sorted(loaded["missing_keys"])
    mismatched = sorted(
        str(entry[0] if isinstance(entry, tuple) else entry) for entry in loaded["mismatched_keys"]
    )
    for what, names in (("lacks", missing), ("has the wrong shape for", mismatched)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"model_name_or_path: '{name}' {what} the weights {', '.join(names[:3])}{more} of this "
                "causal language model; random numbers would take their place"
            )


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
    # models/ is where this project builds: on a fresh checkout that folder is not there itself.
    missing = not path.exists() and (looks_local or path.parent.is_dir() or path.parent.name == "models")
    if missing and ("/" in name or (looks_local and "\\" in name)):
        hint = " `make model` builds the default model." if path.parent.name == "models" else ""
        raise UserError(f"{key}: the folder '{name}' does not exist.{hint}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
