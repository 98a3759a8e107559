"""Log-probabilities of the target tokens, computed inside the model's own ``forward``.

``install_target_head`` gives a causal language model a second way to be called: with ``shift_labels`` its
``forward`` runs the trunk once and the language-model head on target positions only, in chunks that bound
the memory of the logits, and returns :class:`TargetOutput`. Without ``shift_labels`` nothing changes.

It happens inside ``forward`` because DistributedDataParallel and FSDP synchronise gradients for what goes
through the wrapped model's ``forward`` alone. The head is the model's own code (scaling and soft-capping
of the logits included): the original ``forward`` is called with a trunk that returns the chosen states.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.modeling.few_shapes import compiles, few_length, pad_rows_to
from hf_align.modeling.heads.logprobs import log_collisions, token_logps, token_logps_and_entropies
from hf_align.modeling.heads.trunk import find_trunk, trunk_returns
from hf_align.types import IGNORE_INDEX

MAX_LOGITS_PER_CHUNK = 2**27
"""Logits that are held at once, 512 MiB in float32; beyond it they are recomputed in the backward pass."""


@dataclass
class TargetOutput(ModelOutput):
    """Per target token, in row-major order of ``shift_labels``, N in all.

    ``logps`` (N,) float32: log-probability in nats, differentiable. ``correct`` (N,) bool: whether no
    token was more probable. Where they were asked for: ``entropies`` (N,) float32, of the distribution of
    each target in nats, differentiable; ``states`` (N, d), the trunk's final state before each target;
    ``collisions`` (N,) float32, the log of the sum of p^2 over the vocabulary, without a gradient.
    ``state_values`` (N,) float32: the value that a value head gives each state (``value_head``). Not called
    ``values``: an output is a dictionary, whose method of that name DistributedDataParallel calls.
    """

    logps: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    entropies: torch.Tensor | None = None
    state_values: torch.Tensor | None = None
    states: torch.Tensor | None = None
    collisions: torch.Tensor | None = None


def install_target_head(model: PreTrainedModel, *, max_logits: int = MAX_LOGITS_PER_CHUNK) -> None:
    """Teach ``model.forward`` the keyword ``shift_labels`` (B, T), int64 with -100 where nothing counts.

    ``max_logits`` bounds chunk size x vocabulary size. Four more keywords go with it: ``temperature``
    divides the logits, as in sampling; ``with_entropies``, ``with_states`` and ``with_collisions`` fill those
    of the output.

    Raises UserError for a model whose head does not read the states of its trunk.
    """
    # An instance may already carry a patched forward (Accelerate's device hooks do): it is kept and called.
    patched = model.__dict__.get("forward")
    path = find_trunk(model)

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        shift_labels: torch.Tensor | None = None,
        temperature: float = 1.0,
        with_entropies: bool = False,
        with_states: bool = False,
        with_collisions: bool = False,
        **kwargs: Any,
    ) -> Any:
        original = patched or functools.partial(type(self).forward, self)
        if shift_labels is None:
            return original(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        trunk_output = self.base_model(*args, **given, use_cache=False)
        states = trunk_output.last_hidden_state
        counted = shift_labels != IGNORE_INDEX
        chunk = max(1, max_logits // self.config.get_text_config().vocab_size)
        head = functools.partial(_head, original, self.get_submodule(path), type(trunk_output))
        score = functools.partial(
            _score,
            head,
            most=chunk,
            temperature=temperature,
            with_entropies=with_entropies,
            with_collisions=with_collisions,
        )
        together = _gathers_its_head(self)
        found = _in_chunks(score, states[counted], shift_labels[counted], chunk, together=together)
        *parts, collisions = found if with_collisions else (*found, None)
        output = TargetOutput(*parts)
        if with_collisions:
            output["collisions"] = collisions
        if with_states:
            output["states"] = states[counted]
        return output

    # Bound as a method, so that a deep copy of the model gets a forward of its own.
    model.forward = types.MethodType(forward, model)


def _in_chunks(
    score: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]],
    states: torch.Tensor,
    labels: torch.Tensor,
    chunk: int,
    *,
    together: bool = False,
) -> tuple[torch.Tensor, ...]:
    """``states`` (N, d) and ``labels`` (N,) to what ``score`` gives for them, in chunks.

    ``together``: in as many as the process that needs most.
    """
    if together:
        count = torch.tensor(max(1, math.ceil(len(states) / chunk)), device=states.device)
        torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX)
        chunks = list(zip(states.tensor_split(int(count)), labels.tensor_split(int(count)), strict=True))
    elif len(states) <= chunk:
        chunks = [(states, labels)]
    else:
        chunks = list(zip(states.split(chunk), labels.split(chunk), strict=True))
    if len(chunks) == 1:
        return score(*chunks[0])
    pieces = [checkpoint(score, *some, use_reentrant=False) for some in chunks]
    return tuple(torch.cat(parts) for parts in zip(*pieces, strict=True))


def _gathers_its_head(model: PreTrainedModel) -> bool:
    """Whether the processes meet whenever the head runs, because each holds a part of its weights.

    So do FSDP, where it shards the head by itself, and DeepSpeed's ZeRO-3. Processes that ran it a different
    number of times would wait for each other for ever.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    head = model.get_output_embeddings()
    return isinstance(head, FSDPModule) or hasattr(getattr(head, "weight", None), "ds_id")


def _score(
    head: Callable[[torch.Tensor], torch.Tensor],
    states: torch.Tensor,
    labels: torch.Tensor,
    *,
    most: int,
    temperature: float,
    with_entropies: bool,
    with_collisions: bool,
) -> tuple[torch.Tensor, ...]:
    """``head`` maps (n, d) to logits (n, V); the fields of the output in their order, the collisions last.

    Where products are compiled for their shape, it is given one of few numbers of rows, ``most`` at most;
    what comes of the added ones is cut off.
    """
    score = token_logps_and_entropies if with_entropies else token_logps
    count = len(states)
    rows = max(count, min(few_length(count), most)) if compiles(states) else count
    states, labels = pad_rows_to(states, rows), pad_rows_to(labels, rows)
    logits = head(states)
    found = score(logits, labels, temperature=temperature)
    if with_collisions:
        found = (*found, log_collisions(logits, temperature=temperature))
    return tuple(one[:count] for one in found)


def _head(
    original: Callable[..., Any], trunk: torch.nn.Module, output_type: type[ModelOutput], states: torch.Tensor
) -> torch.Tensor:
    """The model's own head on ``states`` (n, d), as logits (n, V)."""
    placeholder = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
    with trunk_returns(trunk, output_type(last_hidden_state=states.unsqueeze(0))):
        return original(input_ids=placeholder, use_cache=False).logits[0]
