"""Models to pre-train: new ones, of an architecture and a size by name or from any configuration, and old
ones.

The sizes are those of the small BERT models (Turc et al. 2019, "Well-Read Students Learn Better", table 1): L
layers of width H with H/64 attention heads and an inner width of 4H. Everything that no size decides is as
the family's own configuration class has it, and any of it can be overridden. An encoder-decoder model has L
layers on each side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import ModelConfig
from hf_align.config.local_paths import check_local
from hf_align.errors import UserError, did_you_mean
from hf_align.modeling.loading import (
    first_line,
    keep_soft_capping,
    load_weights,
    name_base_model,
    read_tokenizer,
    refuse_missing,
)
from hf_align.pretraining.collators import objective
from hf_align.pretraining.recipe import PretrainModelConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from hf_align.modeling.precision import Precision

logger = logging.getLogger(__name__)

SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512)}
"""Layers L and width H by name."""
MODEL_TYPES = {"spanbert": "bert"}
"""What transformers calls the architectures that it knows under another name."""


def new_config(
    architecture: str, size: str, tokenizer: PreTrainedTokenizerBase, *, positions: int
) -> dict[str, Any]:
    """The values of a new model's configuration that its size, its tokenizer and its blocks decide.

    ``positions``: the longest sequence in tokens.
    """
    layers, width = SIZES[size]
    heads, inner = width // 64, 4 * width
    pad = tokenizer.pad_token_id or 0
    shapes: dict[str, dict[str, Any]] = {
        "bert": {"intermediate_size": inner, "max_position_embeddings": positions},
        # RoBERTa counts positions from the pad id on.
        "roberta": {
            "intermediate_size": inner,
            "max_position_embeddings": positions + pad + 1,
            "type_vocab_size": 1,
        },
        "albert": {
            "intermediate_size": inner,
            "max_position_embeddings": positions,
            "embedding_size": min(128, width),
        },
        "t5": {"d_ff": inner, "d_kv": 64, "num_decoder_layers": layers},
        "gpt2": {"n_positions": positions},
        # SwiGLU has three matrices where others have two (Shazeer 2020): two thirds of the width, in whole
        # 64s.
        "llama": {
            "intermediate_size": 64 * round(inner * 2 / 3 / 64),
            "max_position_embeddings": positions,
            "tie_word_embeddings": True,
        },
    }
    if architecture == "bart":
        sides = {
            f"{side}_{part}": value
            for side in ("encoder", "decoder")
            for part, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", inner))
        }
        return {"d_model": width, "max_position_embeddings": positions, **sides}
    shapes["qwen3"] = {**shapes["llama"], "head_dim": 64}
    own = {"llama": {"num_key_value_heads": heads}, "qwen3": {"num_key_value_heads": heads}}
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **shapes[MODEL_TYPES.get(architecture, architecture)],
        **own.get(architecture, {}),
    }


def special_ids(tokenizer: PreTrainedTokenizerBase, *, encoder_decoder: bool) -> dict[str, int | None]:
    """The ids of special tokens as a configuration names them: those of the tokenizer, or None.

    The decoder of an encoder-decoder model begins with the end-of-sequence token where the tokenizer has a
    beginning (BART), else with padding (T5).
    """
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    if encoder_decoder:
        has_beginning = ids["bos_token_id"] is not None
        ids["decoder_start_token_id"] = ids["eos_token_id"] if has_beginning else ids["pad_token_id"]
    return ids


def make_config(
    config: PretrainModelConfig, tokenizer: PreTrainedTokenizerBase, *, positions: int
) -> PretrainedConfig:
    """The configuration of a new model for ``tokenizer``; ``config_overrides`` have the last word.

    Raises UserError where there is no such configuration, an override is no key of it, or transformers
    refuses a value.
    """
    from transformers import CONFIG_MAPPING

    values: dict[str, Any] = {}
    name = str(config.config_name_or_path)
    if config.architecture is not None:
        kind = MODEL_TYPES.get(config.architecture, config.architecture)
        values = new_config(config.architecture, config.model_size, tokenizer, positions=positions)
        base = CONFIG_MAPPING[kind]()
    elif name in CONFIG_MAPPING:
        kind, base = name, CONFIG_MAPPING[name]()
    else:
        base = _read_config(name, trust_remote_code=config.trust_remote_code)
        kind = base.model_type
        values = {key: value for key, value in base.to_diff_dict().items() if not key.startswith("_")}
        for key in ("model_type", "architectures", "transformers_version", "dtype"):
            values.pop(key, None)
        if {"num_hidden_layers", *_names_of("num_hidden_layers", base)} & set(config.config_overrides):
            # What kind each layer is follows from their number.
            values.pop("layer_types", None)
    _check_overrides(config.config_overrides, base, kind)
    ids = special_ids(tokenizer, encoder_decoder=base.is_encoder_decoder)
    described = {
        **values,
        "vocab_size": len(tokenizer),
        **ids,
        **({"forced_eos_token_id": ids["eos_token_id"]} if hasattr(base, "forced_eos_token_id") else {}),
        **config.config_overrides,
    }
    try:
        return type(base)(**described)
    except Exception as error:  # strict configurations raise several kinds
        reason = " ".join(str(error).split())
        raise UserError(f"config_overrides: {kind} refuses these values: {reason}") from error


def new_model(config: PretrainedConfig, name: str, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model with random weights that the objective ``name`` can train.

    Raises UserError where transformers has no such model for this configuration.
    """
    auto_class, kind = model_class(name)
    try:
        model = auto_class.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a width that the heads do not divide, and much else, in many kinds
        raise UserError(
            f"no {kind} can be made from this configuration of {config.model_type} for objective {name}: "
            f"{first_line(error)}"
        ) from error
    keep_soft_capping(model)
    name_base_model(model)
    return _checked(model, name)


def model_class(name: str) -> tuple[Any, str]:
    """(transformers' class for the objective ``name``, what it makes, in words)."""
    import transformers

    chosen = objective(name)
    if chosen.examples == "pairs":
        return transformers.AutoModelForPreTraining, "encoder with a head for pairs"
    return {
        "encoder": (transformers.AutoModelForMaskedLM, "masked language model"),
        "encoder_decoder": (transformers.AutoModelForSeq2SeqLM, "encoder-decoder language model"),
        "decoder": (transformers.AutoModelForCausalLM, "causal language model"),
    }[chosen.architecture]


def load_pretrained(
    config: PretrainModelConfig, name: str, *, precision: Precision, use_cpu: bool
) -> PreTrainedModel:
    """A model with weights that the objective ``name`` trains on. Raises UserError where it does not fit."""
    auto_class, kind = model_class(name)
    path = str(config.model_name_or_path)
    model, lacking = load_weights(
        auto_class,
        kind,
        ModelConfig(
            model_name_or_path=path,
            model_revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
        ),
        trainable_base=True,
        precision=precision,
        use_cpu=use_cpu,
    )
    refuse_missing(path, kind, lacking)
    return _checked(model, name)


def copy_embeddings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    *,
    trust_remote_code: bool = False,
) -> int:
    """Begin with the input embeddings of the model in ``source`` for every token that both have.

    Returns how many rows were copied. Raises UserError where the widths differ or no token is common.
    """
    import torch
    from transformers import AutoModel

    key = "embeddings_name_or_path"
    theirs = read_tokenizer(key, source, trust_remote_code=trust_remote_code).get_vocab()
    try:
        given = AutoModel.from_pretrained(source, use_safetensors=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"{key}: no model could be loaded from '{source}': {first_line(error)}") from error
    rows, table = given.get_input_embeddings().weight, model.get_input_embeddings().weight
    if rows.shape[1] != table.shape[1]:
        raise UserError(
            f"{key}: the embeddings of '{source}' are {rows.shape[1]} wide, those of the new model "
            f"{table.shape[1]}; choose that width with config_overrides"
        )
    common = [(id, theirs[token]) for token, id in tokenizer.get_vocab().items() if token in theirs]
    common = [(ours, its) for ours, its in common if ours < len(table) and its < len(rows)]
    if not common:
        raise UserError(f"{key}: the tokenizer of '{source}' has no token in common with this one")
    ours, its = (torch.tensor(ids) for ids in zip(*common, strict=True))
    with torch.no_grad():
        table[ours] = rows[its].to(table.dtype)
    return len(common)


def _checked(model: PreTrainedModel, name: str) -> PreTrainedModel:
    from hf_align.modeling.heads.selecting import classifies_pairs

    chosen = objective(name)
    if chosen.examples == "pairs" and not classifies_pairs(model):
        raise UserError(
            f"objective {name}: {model.config.model_type} has no head that classifies pairs of segments; use "
            "bert or albert, or the objective mlm"
        )
    if model.config.is_encoder_decoder != (chosen.architecture == "encoder_decoder"):
        raise UserError(
            f"objective {name} trains {chosen.architecture.replace('_', '-')} models, and "
            f"{model.config.model_type} is none"
        )
    return model


def _read_config(name: str, *, trust_remote_code: bool) -> PretrainedConfig:
    from transformers import CONFIG_MAPPING, AutoConfig

    key = "config_name_or_path"
    if "/" not in name and not Path(name).exists():
        raise UserError(
            f"{key}: found '{name}', expected a folder, a config.json, a hub name or a model type of "
            f"transformers.{did_you_mean(name, list(CONFIG_MAPPING))}"
        )
    check_local(key, name)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise UserError(
            f"{key}: no configuration could be read from '{name}': {first_line(error)}"
        ) from error


def _names_of(key: str, base: PretrainedConfig) -> list[str]:
    """What a family calls an option that most call ``key``."""
    return [own for common, own in base.attribute_map.items() if common == key]


def _check_overrides(overrides: Mapping[str, Any], base: PretrainedConfig, kind: str) -> None:
    known = {*base.to_dict(), *base.attribute_map}
    for name in overrides:
        if name not in known:
            raise UserError(
                f"config_overrides: a configuration of {kind} has no '{name}'.{did_you_mean(name, known)}"
            )


def load_pretraining_tokenizer(config: PretrainModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a pre-training recipe, with a pad token; nothing of it depends on a chat template.

    Raises UserError where it cannot be loaded.
    """
    key = "tokenizer_name_or_path" if config.tokenizer_name_or_path else "model_name_or_path"
    name = str(config.tokenizer_name_or_path or config.model_name_or_path)
    tokenizer = read_tokenizer(
        key, name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
    )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        # Padding is told apart by position, never by id.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
