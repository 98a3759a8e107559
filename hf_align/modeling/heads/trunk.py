"""Which part of a model gives the states that its head reads.

In most families it is the base model. Some heads call the decoder inside it instead (OPT, and the decoders of
BART and its kin): what stands in for the base model would never be asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.errors import UserError


class _ReachedTrunk(Exception):
    """The model's forward has come to its trunk."""


def find_trunk(model: PreTrainedModel) -> str:
    """The path in ``model`` of the module whose states its own ``forward`` turns into logits.

    Found by trying, before anything is computed. Raises UserError where it is neither the base model nor the
    decoder inside.
    """
    names = {id(module): name for name, module in model.named_modules()}
    decoder = getattr(model, "get_decoder", lambda: None)()
    for trunk in (model.base_model, decoder):
        path = names.get(id(trunk), "")
        if path and _asks(model, trunk):
            return path
    raise UserError(
        f"{type(model).__name__} computes its logits from other states than those of its base model, so that "
        "they cannot be taken for chosen tokens alone"
    )


@contextmanager
def trunk_returns(trunk: torch.nn.Module, output: ModelOutput) -> Iterator[None]:
    """Let ``trunk`` give ``output`` while inside, whatever it is called with."""

    def forward(*_: Any, **__: Any) -> ModelOutput:
        return output

    with _forward_is(trunk, forward):
        yield


@contextmanager
def _forward_is(module: torch.nn.Module, forward: Any) -> Iterator[None]:
    previous = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if previous is None:
            del module.__dict__["forward"]
        else:
            module.forward = previous


def _asks(model: PreTrainedModel, trunk: torch.nn.Module) -> bool:
    def asked(*_: Any, **__: Any) -> None:
        raise _ReachedTrunk

    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _forward_is(trunk, asked):
            model(input_ids=ids, use_cache=False)
    except _ReachedTrunk:
        return True
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return False  # it has come to something else, which could not be computed
    finally:
        model.train(training)
    return False
