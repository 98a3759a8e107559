"""A sequence classifier from any model: from its weights, its embeddings alone, or at random.

The result is transformers' own class for the family (a head on the last token of a decoder, on the pooled
states of an encoder, on the decoder's last state of an encoder-decoder), so that what is saved loads as such.
What this module leaves out: how a batch is read (``modeling.heads.sequence``) and padding (``pad_token``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from hf_align.classify.record import ClassifyRecord
from hf_align.config import ModelConfig
from hf_align.config.model import Dtype
from hf_align.errors import UserError
from hf_align.modeling.dropout import disable_dropout
from hf_align.modeling.loading import (
    check_vocabulary,
    first_line,
    is_classifier,
    load_tokenizer,
    load_weights,
    read_settings,
    refuse_missing,
)
from hf_align.modeling.pad_token import set_pad_token
from hf_align.modeling.reward_model import (
    KIND,
    head_modules,
    modules_named,
    no_report_on_weights,
    skeleton_head,
)
from hf_align.runs.record import read_run
from hf_align.saved_models.reward_scoring import add_row_for_padding
from hf_align.saved_models.run_models import ModelSource, attach_adapter, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hf_align.modeling.precision import Precision

logger = logging.getLogger(__name__)

Start = Literal["weights", "embeddings", "random"]


def known_labels(config: ModelConfig) -> tuple[str, ...] | None:
    """The classes of a model that is a classifier already; None for any other, and for unnamed classes.

    Raises UserError where there is no configuration to read.
    """
    settings = read_settings(config, KIND)
    if not is_classifier(settings) or settings.num_labels < 2:
        return None
    names = tuple(str(settings.id2label[number]) for number in range(settings.num_labels))
    unnamed = all(name == f"LABEL_{number}" for number, name in enumerate(names))
    return None if unnamed else names


def load_classifier_base(
    config: ModelConfig,
    *,
    labels: Sequence[str],
    trainable_base: bool,
    precision: Precision,
    use_cpu: bool,
    init_from: Start = "weights",
) -> PreTrainedModel:
    """A sequence classifier with one output a label, for training.

    A checkpoint without a head for it gets a new one, as the family draws it; a head that it has is kept. On
    a frozen base the head is float32 whatever the base's type. ``init_from``: ``embeddings`` keeps the token
    embeddings only and draws all else; ``random`` draws everything and reads no weights. Raises UserError
    where there is no such model, where weights other than the head's are missing, or where the checkpoint is
    a classifier with another number of classes.
    """
    from transformers import AutoModelForSequenceClassification

    name = config.model_name_or_path
    settings = read_settings(config, KIND)
    if is_classifier(settings) and settings.num_labels != len(labels) and init_from == "weights":
        raise UserError(
            f"model_name_or_path: '{name}' is a classifier with {settings.num_labels} outputs, and there are "
            f"{len(labels)} labels; name the model that it was trained from"
        )
    naming = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    if init_from == "random":
        return _drawn(settings, config, naming)
    quantized = config.load_in_4bit or config.load_in_8bit
    with no_report_on_weights():
        model, lacking = load_weights(
            AutoModelForSequenceClassification,
            KIND,
            config,
            trainable_base=trainable_base,
            precision=precision,
            use_cpu=use_cpu,
            not_quantized=skeleton_head(settings, config) if quantized else None,
            **naming,
        )
    parts = head_modules(model)
    refuse_missing(name, KIND, [key for key in lacking if not set(key.split(".")[:2]) & set(parts)])
    if init_from == "embeddings":
        fresh = _drawn(settings, config, naming)
        with torch.no_grad():
            fresh.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
        return fresh
    if not trainable_base:
        for part in modules_named(model, parts):
            part.float()
    return model


def train_head_only(model: PreTrainedModel) -> None:
    """Freeze everything but the head, and switch off the dropout of what is frozen."""
    head = [module for module in modules_named(model, head_modules(model))]
    inside = {id(module) for part in head for module in part.modules()}
    rates = {
        module: module.p
        for module in model.modules()
        if id(module) in inside and isinstance(module, torch.nn.modules.dropout._DropoutNd)
    }
    disable_dropout(model)
    for module, rate in rates.items():
        module.p = rate
    model.requires_grad_(False)
    for part in head:
        part.requires_grad_(True)


def reads_segments(model: PreTrainedModel) -> bool:
    """Whether the model tells the two texts of a pair apart by segment ids."""
    return (getattr(model.config, "type_vocab_size", None) or 0) > 1


def load_classifier(
    path: str | Path, *, base: str | None = None, dtype: Dtype = "auto", use_cpu: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model in evaluation mode, tokenizer) of what ``hf-align classify`` saved: a whole model or an adapter.

    ``base``: the base of an adapter, where it is not where the adapter says. Raises UserError where there is
    no classifier.
    """
    config = ModelConfig(str(path), dtype=dtype)
    source = find_model(config, base=base, use_cpu=use_cpu, task_type="SEQ_CLS")
    labels = known_labels(config) if source.adapter is None else _labels_of_run(source)
    if labels is None:
        raise UserError(f"{path}: this model names no classes; expected what `hf-align classify` saved")
    tokenizer = load_tokenizer(source.config)
    model: Any = load_classifier_base(
        source.config, labels=labels, trainable_base=False, precision=source.precision, use_cpu=use_cpu
    )
    if source.adapter is not None:
        add_row_for_padding(model, tokenizer)
        set_pad_token(model, int(tokenizer.pad_token_id))
        model = attach_adapter(model, source.adapter, tokenizer)
    else:
        check_vocabulary(model, tokenizer)
    if source.quantization is None and not use_cpu and torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model.eval(), tokenizer


def _labels_of_run(source: ModelSource) -> list[str] | None:
    """The classes that the run of an adapter wrote down."""
    if source.run_dir is None:
        return None
    return [str(name) for name in ClassifyRecord.of(read_run(source.run_dir)).labels] or None


def _drawn(settings: Any, config: ModelConfig, naming: dict[str, Any]) -> PreTrainedModel:
    """A float32 network of this shape with the random weights of its family."""
    from transformers import AutoModelForSequenceClassification

    for key, value in naming.items():
        setattr(settings, key, value)
    try:
        model = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=config.trust_remote_code, dtype=torch.float32
        )
    except ValueError as error:
        raise UserError(
            f"model_name_or_path: there is no {KIND} of the family {settings.model_type}: {first_line(error)}"
        ) from error
    return cast("PreTrainedModel", model)
