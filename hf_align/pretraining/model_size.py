"""How large a model is, counted and estimated, and how much a token costs to train."""

from __future__ import annotations

from typing import Any

from hf_align.pretraining.collators import objective as objective_of
from hf_align.pretraining.record import PretrainedModel


def model_facts(model: Any, *, length: int, objective: str) -> PretrainedModel:
    """What run.json says of a model that is pre-trained.

    ``parameters``: shared ones once. ``estimated_parameters``: V·H + 12·L·H², with L the layers of both sides
    of an encoder-decoder model: embeddings, and in each layer 4·H² for attention and 8·H² for the network
    behind it; biases, norms, positions, cross-attention (4·H² a decoder layer) and heads are left out.
    ``training_flops_by_position``: of a token, forward and backward, 6 a parameter and 12·L·H·T for
    attention to T tokens (Chowdhery et al. 2022, appendix B), as if the head ran on every token; ``length``:
    T.
    """
    config = model.config.get_text_config()
    width, layers = int(config.hidden_size), count_layers(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    return PretrainedModel(
        class_name=type(model).__name__,
        kind=objective_of(objective).architecture,
        parameters=parameters,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        estimated_parameters=vocabulary * width + 12 * layers * width**2,
        training_flops_by_position=6 * parameters + 12 * layers * width * length,
    )


def count_layers(config: Any) -> int:
    """Layers of a model, those of both sides where it has an encoder and a decoder."""
    if not config.is_encoder_decoder:
        return int(config.num_hidden_layers)
    encoder = getattr(config, "encoder_layers", None) or config.num_hidden_layers
    decoder = (
        getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None) or encoder
    )
    return int(encoder) + int(decoder)
