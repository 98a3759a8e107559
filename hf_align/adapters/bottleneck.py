"""Bottleneck adapters: small two-layer networks in every block, h + s * W_up act(W_down h).

``houlsby``: on what the attention gives and on what the feed-forward part gives, before the residual is added
(Houlsby et al. 2019, arXiv 1902.00751, metric 2). ``pfeiffer``: on what the feed-forward part gives only
(Pfeiffer et al. 2021, arXiv 2005.00247). ``parallel``: beside the feed-forward part, from its input (He et
al. 2022, arXiv 2110.04366, table 1). W_up begins at zero, so the outputs at the start are the base's own.
What this leaves out: norms inside adapters, and fusion of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from hf_align.adapters.blocks import Block, find_blocks
from hf_align.adapters.method import Added, Method
from hf_align.errors import UserError

Placement = Literal["houlsby", "pfeiffer", "parallel"]


@dataclass(frozen=True)
class BottleneckOptions:
    """``width``: of the bottleneck; None: the model's width divided by ``reduction``. ``scaling``: s above.

    ``activation``: by transformers' name, such as ``relu`` or ``gelu``. ``dropout``: after the activation.
    """

    placement: Placement = "pfeiffer"
    width: int | None = None
    reduction: float = 16.0
    activation: str = "relu"
    scaling: float = 1.0
    dropout: float = 0.0


class Bottleneck(Added):
    """The network of one place: (…, d) to (…, d)."""

    def __init__(self, size: int, width: int, options: BottleneckOptions) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        self.down = torch.nn.Linear(size, width)
        self.activation = ACT2FN[options.activation]
        self.dropout = torch.nn.Dropout(options.dropout)
        self.up = torch.nn.Linear(width, size)
        self.scaling = options.scaling
        torch.nn.init.normal_(self.down.weight, std=size**-0.5)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(zero)

    def change(self, states: torch.Tensor) -> torch.Tensor:
        """s * W_up act(W_down h), in the type of ``states``."""
        inner = self.dropout(self.activation(self.down(states.to(self.down.weight.dtype))))
        return (self.scaling * self.up(inner)).to(states.dtype)


class Sequential(Bottleneck):
    """After a module: y + change(y)."""

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        output: torch.Tensor = base(*args, **kwargs)
        return output + self.change(output)


class RememberInput(Added):
    """Remembers the input of the feed-forward part until its last layer has been called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: torch.Tensor | None = None

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.seen = args[0] if args else next(iter(kwargs.values()))
        return base(*args, **kwargs)


class Parallel(Bottleneck):
    """Beside the feed-forward part: y + change(x) with x its input."""

    def __init__(self, size: int, width: int, options: BottleneckOptions, entrance: RememberInput) -> None:
        super().__init__(size, width, options)
        # In a list, so that it is no part of this module: it stands at its own place in the model.
        self.entrance = [entrance]

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        output: torch.Tensor = base(*args, **kwargs)
        seen = self.entrance[0].seen
        assert seen is not None
        self.entrance[0].seen = None
        return output + self.change(seen).to(output.dtype)


def attach(base: Any, options: BottleneckOptions) -> Mapping[str, Added]:
    """The adapters of all blocks. Raises UserError for a width that is none, or without blocks."""
    from transformers.activations import ACT2FN

    from hf_align.errors import did_you_mean

    if options.activation not in ACT2FN:
        near = did_you_mean(options.activation, list(ACT2FN))
        raise UserError(f"bottleneck_activation: no activation is called '{options.activation}'.{near}")
    found: dict[str, Added] = {}
    for block in find_blocks(base):
        width = bottleneck_width(options, block.width)
        found |= _of_block(block, width, options)
    return found


def bottleneck_width(options: BottleneckOptions, size: int) -> int:
    """The width in a model of width ``size``. Raises UserError where it is none, or no bottleneck."""
    if options.width is None:
        width = int(size / options.reduction)
        if width < 1:
            raise UserError(
                f"bottleneck_reduction: {options.reduction:g} leaves nothing of the model's {size} states; "
                f"expected at most {size}, or a bottleneck_width"
            )
        return width
    if options.width >= size:
        raise UserError(
            f"bottleneck_width: {options.width} is no bottleneck in a model with {size} states: two matrices "
            f"of that width hold more than a full {size} x {size} matrix; expected less, "
            f"{max(1, size // 16)} for example"
        )
    return options.width


def _of_block(block: Block, width: int, options: BottleneckOptions) -> dict[str, Added]:
    if options.placement == "parallel":
        entrance = RememberInput()
        return {
            block.enters: entrance,
            block.leaves: Parallel(block.width, width, options, entrance),
        }
    places = [block.leaves] if options.placement == "pfeiffer" else [*block.attentions, block.leaves]
    return {place: Sequential(block.width, width, options) for place in places}


BOTTLENECK = Method(
    "bottleneck",
    BottleneckOptions,
    attach,
    not_mergeable="a bottleneck has an activation between its two matrices, which no change of weights gives",
)
