"""Tokenizers and causal language models from a local folder or a hub id.

Remote code is off unless the recipe turns it on, and weights are read from safetensors only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import ModelConfig
from hf_align.config.local_paths import check_local
from hf_align.data.chat.templates import resolve_chat_template
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
    key = "tokenizer_name_or_path" if config.tokenizer_name_or_path else "model_name_or_path"
    name = config.tokenizer_name_or_path or config.model_name_or_path
    tokenizer = read_tokenizer(
        key, name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
    )
    if config.chat_template_path is not None:
        tokenizer.chat_template = resolve_chat_template(config.chat_template_path)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{key}: the tokenizer of '{name}' has neither a pad nor an end-of-sequence token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def read_tokenizer(
    key: str, name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer that the option ``key`` names, as it was saved. Raises UserError where there is none."""
    from transformers import AutoTokenizer

    check_local(key, name)
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    # A broken tokenizer.json surfaces as a bare Exception from the tokenizers library.
    except Exception as error:
        raise UserError(f"{key}: no tokenizer could be loaded from '{name}': {first_line(error)}") from error


def load_model(
    config: ModelConfig, *, trainable_base: bool, precision: Precision, use_cpu: bool
) -> PreTrainedModel:
    """A causal language model for training; see :func:`load_weights`."""
    from transformers import AutoModelForCausalLM

    model, lacking = load_weights(
        AutoModelForCausalLM,
        "causal language model",
        config,
        trainable_base=trainable_base,
        precision=precision,
        use_cpu=use_cpu,
    )
    name = config.model_name_or_path
    if is_classifier(model.config):
        raise UserError(
            f"model_name_or_path: '{name}' holds a reward model or another classifier "
            f"({model.config.architectures[0]}), which has no language-model head; name the model that it "
            "was trained from"
        )
    refuse_missing(name, "causal language model", lacking)
    return model


def read_settings(config: ModelConfig, kind: str = "model") -> Any:
    """The model's configuration, without its weights. Raises UserError where there is none."""
    from transformers import AutoConfig

    name = config.model_name_or_path
    check_local("model_name_or_path", name)
    try:
        return AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path: no {kind} could be loaded from '{name}': {first_line(error)}"
        ) from error


def is_classifier(config: Any) -> bool:
    """Whether a model was saved as a sequence classifier; ``config``: its configuration as loaded."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def load_weights(
    auto_class: Any,
    kind: str,
    config: ModelConfig,
    *,
    trainable_base: bool,
    precision: Precision,
    use_cpu: bool,
    not_quantized: Sequence[str] | None = None,
    **options: Any,
) -> tuple[PreTrainedModel, list[str]]:
    """A model of ``auto_class`` for training, and the names of weights that its files lack.

    ``dtype: auto`` keeps float32 weights where the base itself is trained, since an optimizer step is
    often smaller than half precision resolves, and loads a frozen base in the precision of the
    computation. Quantised models come with bitsandbytes' inference shortcut for CPUs switched off.
    ``kind``: what the model is, for messages. ``not_quantized``: modules that keep ordinary weights in a
    quantised model, by default those that transformers leaves out. ``options`` go to ``from_pretrained``.
    What the files lack is random; the caller has to refuse it or to fill it. Raises UserError where the
    model cannot be loaded.
    """
    import torch
    from safetensors import SafetensorError

    from hf_align.modeling.quantization import prepare_quantized, quantization_config

    name = config.model_name_or_path
    check_local("model_name_or_path", name)
    if (Path(name) / "adapter_config.json").is_file():
        raise UserError(
            f"model_name_or_path: '{name}' holds an adapter, not a whole model; training would start without "
            f"it. Merge it first (hf-align merge --model_name_or_path {name} --output_dir …), or name its "
            "base model."
        )
    quantization = quantization_config(config, precision, not_quantized=not_quantized)
    if quantization is not None:
        options["quantization_config"] = quantization
        options["device_map"] = {"": _device(use_cpu)}
    try:
        model, loaded = auto_class.from_pretrained(
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
            f"model_name_or_path: no {kind} could be loaded from '{name}': {first_line(error)}"
        ) from error
    mismatched = sorted(
        str(entry[0] if isinstance(entry, tuple) else entry) for entry in loaded["mismatched_keys"]
    )
    if mismatched:
        raise UserError(
            f"model_name_or_path: '{name}' has the wrong shape for the weights {_some(mismatched)} of this "
            f"{kind}; random numbers would take their place"
        )
    if quantization is not None:
        prepare_quantized(model)
    if not all(torch.isfinite(p).all() for p in model.parameters() if p.is_floating_point()):
        raise UserError(f"model_name_or_path: '{name}' holds weights that are not finite numbers")
    keep_soft_capping(model)
    name_base_model(model)
    return model, sorted(loaded["missing_keys"])


def keep_soft_capping(model: PreTrainedModel) -> None:
    """Give ``model`` eager attention where its scores are soft-capped and "sdpa" would leave that out.

    transformers before 5.21 chooses "sdpa" for Gemma 2 and its kin all the same.
    """
    settings = model.config
    parts = (
        settings,
        settings.get_text_config(),
        *(getattr(settings, name, None) for name in ("encoder", "decoder")),
    )
    capped = any(getattr(part, "attn_logit_softcapping", None) is not None for part in parts)
    if capped and settings._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def name_base_model(model: PreTrainedModel) -> None:
    """Let ``model.base_model`` be the trunk where the family's name for it is that of another class.

    transformers looks for ``language_model`` in Llama 4's text model, which calls its trunk ``model`` as
    others do, and gives the whole model for its base.
    """
    if model.base_model is model and hasattr(getattr(model, "model", None), "config"):
        model.base_model_prefix = "model"


def refuse_missing(name: str, kind: str, missing: Sequence[str]) -> None:
    """Raise UserError for weights that the files of the model ``name`` lack.

    transformers fills them with random numbers, which would be trained unseen.
    """
    if missing:
        raise UserError(
            f"model_name_or_path: '{name}' lacks the weights {_some(missing)} of this {kind}; random numbers "
            "would take their place"
        )


def check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError where the tokenizer has tokens that the model has no embedding for."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer in '{tokenizer.name_or_path}' has {len(tokenizer):,} tokens, and the model has "
            f"embeddings for {rows:,}: the weights of the new tokens were not saved with the adapter, or "
            "this is another model's tokenizer (see tokenizer_name_or_path)"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
