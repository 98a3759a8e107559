"""The load-balancing loss of a mixture of experts, where the model's own configuration asks for it.

It is transformers' own (arXiv 2101.03961, equations 4 to 6): the share of the tokens that each expert gets
times its mean probability, summed over experts, times their number, by ``router_aux_loss_coef``. Shares and
means are those of a whole step on all processes, so that the loss does not depend on how the step is cut; the
shares, which have no gradient, are counted before it. What this leaves out: router losses of another form
(z-losses, biases that are moved between steps).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from hf_align.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class Seen:
    """What routers gave for tokens that are no padding, in passes with gradients.

    ``counts`` (E,): how often each expert was chosen; ``mass`` (E,): the sum of its probabilities, with a
    gradient; ``rows``: tokens times layers.
    """

    counts: Any = 0.0
    mass: Any = 0.0
    rows: Any = 0.0
    taken: list[tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=list, repr=False)
    real: torch.Tensor | None = field(default=None, repr=False)

    @property
    def totals(self) -> torch.Tensor:
        """(E + 1,) float64: ``counts`` and ``rows``. Raises UserError where nothing was seen."""
        if isinstance(self.rows, float):
            raise UserError(
                "output_router_logits: the routers of this model were not seen in a pass with gradients, so "
                "that their loss cannot be computed; set output_router_logits to false in its config.json"
            )
        return torch.cat([self.counts, self.rows[None]]).double()

    def add(self, logits: torch.Tensor, real: torch.Tensor | None, top_k: int) -> None:
        """``logits`` (..., E) of one layer; ``real``: 1 for each token that is no padding."""
        logits = logits.reshape(-1, logits.shape[-1])
        probabilities = torch.softmax(logits, dim=-1)
        chosen = torch.zeros_like(probabilities).scatter_(1, probabilities.topk(top_k, dim=-1).indices, 1.0)
        real = logits.new_ones(len(logits)) if real is None else real.to(logits).reshape(-1)
        self.counts = self.counts + (chosen.detach() * real[:, None]).float().sum(dim=0)
        self.mass = self.mass + (probabilities.float() * real[:, None]).sum(dim=0)
        self.rows = self.rows + real.float().sum()


class RouterLoss:
    """The router loss of a model. ``trunk``: its base model; ``routers``: (module, place of the logits in
    what it gives); ``top_k``: experts of a token."""

    def __init__(
        self, trunk: torch.nn.Module, routers: list[tuple[Any, int]], coefficient: float, top_k: int
    ):
        self.trunk, self.routers = trunk, routers
        self.coefficient, self.top_k = coefficient, top_k

    @contextlib.contextmanager
    def watching(self) -> Iterator[Seen]:
        """What the routers give inside."""
        seen = Seen()
        hooks = [self.trunk.register_forward_pre_hook(lambda _, a, k: _note(seen, k), with_kwargs=True)]
        for router, place in self.routers:
            hooks.append(router.register_forward_hook(_taking(seen, place)))
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()
        # Not in the hooks: where activations are recomputed, that would have to be as well.
        for logits, real in seen.taken:
            seen.add(logits, real, self.top_k)

    def survey(self, passes: Iterable[tuple[Callable[[], Any], bool]]) -> torch.Tensor:
        """(E + 1,) float64: ``counts`` and ``rows`` of ``passes``: (what to run, whether it counts)."""
        total: Any = 0.0
        for run, counts in passes:
            with self.watching() as seen:
                run()
            found = seen.totals
            total = total + (found if counts else torch.zeros_like(found))
        return total

    def part(self, seen: Seen, totals: torch.Tensor) -> torch.Tensor:
        """What one micro-batch adds to the loss of a step with these ``totals`` (E + 1,)."""
        shares, rows = totals[:-1] / totals[-1], totals[-1]
        mass = seen.mass / rows.float()
        return self.coefficient * len(shares) * (shares.float() * mass).sum()


def router_loss(model: torch.nn.Module) -> RouterLoss | None:
    """Of ``model``, whatever it is wrapped in; None where its configuration asks for none."""
    inner: Any = next(
        (m for m in model.modules() if hasattr(getattr(m, "config", None), "get_text_config")), None
    )
    settings = None if inner is None else inner.config.get_text_config()
    if not getattr(settings, "output_router_logits", False):
        return None
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    coefficient = getattr(settings, "router_aux_loss_coef", None) or 0.0
    places: list[tuple[type, int]] = [
        (recorder.target_class, recorder.index)
        for module in inner.modules()
        for name, recorder in (getattr(module, "_can_record_outputs", None) or {}).items()
        if name == "router_logits" and hasattr(recorder, "target_class")
    ]
    routers = {id(m): (m, place) for kind, place in places for m in inner.modules() if isinstance(m, kind)}
    names = ("num_experts_per_tok", "moe_k", "moe_topk")
    top_k = next((n for n in (getattr(settings, name, None) for name in names) if isinstance(n, int)), None)
    if not coefficient or not hasattr(sys.modules[type(inner).__module__], "load_balancing_loss_func"):
        return None  # transformers adds none either
    if not routers or top_k is None:
        _say_that_it_is_left_out(type(inner).__name__)
        return None
    return RouterLoss(inner.base_model, [*routers.values()], coefficient, top_k)


@functools.cache
def _say_that_it_is_left_out(name: str) -> None:
    logger.warning(
        "%s: output_router_logits asks for a router loss, but this model does not say where its routers are; "
        "it is trained without",
        name,
    )


def _note(seen: Seen, inputs: dict[str, Any]) -> None:
    """Which positions are no padding."""
    segments, mask = inputs.get("segments"), inputs.get("attention_mask")
    if segments is not None:
        real = torch.ones(inputs["input_ids"].shape[1], device=inputs["input_ids"].device)
        seen.real = (
            real
            if not segments.filler
            else real.index_fill(
                0, torch.arange(len(real) - segments.filler, len(real), device=real.device), 0.0
            )
        )
    else:
        seen.real = mask if mask is not None and mask.ndim == 2 else None


def _taking(seen: Seen, place: int) -> Callable[..., None]:
    def take(module: Any, args: Any, output: Any) -> None:
        if torch.is_grad_enabled():  # a reference beside the policy is computed without
            logits = output[place] if isinstance(output, tuple | list) else output
            seen.taken.append((logits, seen.real))

    return take
