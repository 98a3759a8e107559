"""A reward model from a language model, an encoder or an earlier reward model: trunk, scalar head, dtypes.

The result is transformers' own sequence classifier with one label, so that what is saved loads as such. What
this module leaves out: where a sequence is scored (``heads.reward``) and padding (``pad_token``).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch

from hf_align.config.local_paths import check_local
from hf_align.errors import UserError
from hf_align.modeling.loading import first_line, is_classifier, load_weights, refuse_missing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_align.config import ModelConfig
    from hf_align.modeling.precision import Precision

logger = logging.getLogger(__name__)

KIND = "sequence classification model"


def load_reward_base(
    config: ModelConfig,
    *,
    trainable_base: bool,
    precision: Precision,
    use_cpu: bool,
    head_init: Literal["normal", "zero"] | None = "normal",
) -> PreTrainedModel:
    """A sequence classifier with one label, for training or scoring.

    A checkpoint of a language model or of an encoder has no head for it: a new one is made, its last layer
    drawn from N(0, 1 / (d + 1)) with d its width (Stiennon et al. 2020, arXiv 2009.01325) or
    set to zero; with None the checkpoint has to have one. A head that it has is kept. On a frozen base the
    head is float32 whatever the base's type. Raises UserError where there is no such model, where weights
    other than the head's are missing, and for encoder-decoder models.
    """
    from transformers import AutoModelForSequenceClassification

    name = config.model_name_or_path
    settings = _settings(config)
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
            num_labels=1,
        )
    parts = head_modules(model)
    of_head = [key for key in lacking if set(key.split(".")[:2]) & set(parts)]
    refuse_missing(name, KIND, [key for key in lacking if key not in of_head])
    layer_name, layer = _last_layer(model, name)
    if of_head and head_init is None:
        raise UserError(
            f"model_name_or_path: '{name}' is no reward model: it has no head ({', '.join(of_head[:3])} "
            "missing); name what `hf-align reward` saved, or a sequence classification model with one label"
        )
    if f"{layer_name}.weight" in lacking:
        _draw(layer, head_init)
    elif head_init is not None:
        logger.info("%s has a head already, which is kept", name)
    if not trainable_base:
        for part in modules_named(model, parts):
            part.float()
    return model


def head_modules(model: PreTrainedModel) -> list[str]:
    """Names of the modules that lead from the trunk's states to the score: ``score``, or ``classifier`` and
    ``pooler``."""
    parts = [name for name, child in model.named_children() if child is not model.base_model]
    pooler = getattr(model.base_model, "pooler", None)
    parts += ["pooler"] if isinstance(pooler, torch.nn.Module) else []
    return [
        name
        for name in parts
        if any(True for part in modules_named(model, [name]) for _ in part.parameters())
    ]


def modules_named(model: PreTrainedModel, names: list[str]) -> Iterator[torch.nn.Module]:
    """The direct children of these names, of the model and of its trunk."""
    for owner in (model, model.base_model):
        for name, child in owner.named_children():
            if name in names and child is not model.base_model:
                yield child


@contextlib.contextmanager
def no_report_on_weights() -> Iterator[None]:
    """transformers warns of the head that is missing and of the one that is not needed; both are expected."""

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)


def _last_layer(model: PreTrainedModel, name: str) -> tuple[str, torch.nn.Linear]:
    """The linear layer that gives the score."""
    inside = set(map(id, model.base_model.modules()))
    found = [
        (layer_name, layer)
        for layer_name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer.out_features == 1 and id(layer) not in inside
    ]
    if not found:
        raise UserError(
            f"model_name_or_path: '{name}' loads as {type(model).__name__}, which has no linear layer with "
            "one output; a reward model needs a decoder or an encoder with a linear head"
        )
    return found[-1]


def _draw(layer: torch.nn.Linear, head_init: str | None) -> None:
    with torch.no_grad():
        if head_init == "normal":
            layer.weight.normal_(0.0, (layer.in_features + 1) ** -0.5)
        else:
            layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()


def _settings(config: ModelConfig) -> Any:
    """The model's configuration; raises UserError for one that a reward model cannot be made of."""
    from transformers import AutoConfig

    name = config.model_name_or_path
    check_local("model_name_or_path", name)
    try:
        settings = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path: no {KIND} could be loaded from '{name}': {first_line(error)}"
        ) from error
    if settings.is_encoder_decoder:
        raise UserError(
            f"model_name_or_path: '{name}' is an encoder-decoder model ({settings.model_type}); reward "
            "models are made of decoders such as Llama or GPT-2, or encoders such as BERT"
        )
    if is_classifier(settings) and settings.num_labels != 1:
        raise UserError(
            f"model_name_or_path: '{name}' is a classifier with {settings.num_labels} labels; expected a "
            "reward model with one score, or a model without a classification head"
        )
    return settings


def skeleton_head(settings: Any, config: ModelConfig) -> list[str]:
    """Full names of the head's modules, found without loading weights: they stay out of quantisation."""
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"):
            skeleton = AutoModelForSequenceClassification.from_config(
                settings, trust_remote_code=config.trust_remote_code
            )
    except ValueError as error:
        raise UserError(
            f"model_name_or_path: no {KIND} could be loaded from '{config.model_name_or_path}': "
            f"{first_line(error)}"
        ) from error
    heads = set(map(id, modules_named(skeleton, head_modules(skeleton))))
    return [name for name, module in skeleton.named_modules() if id(module) in heads]
