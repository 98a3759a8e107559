"""The side network beside one stack of blocks: a narrow copy of the stack, fed by the backbone's states.

It is the stack's own class with a smaller configuration, so that positions, masks, segments of a packed row,
caches and gradient checkpointing are those of the backbone's code. Between its blocks stand the rungs of the
ladder: each mixes what the side network has with a downsampled state of the backbone (Sung et al. 2022, arXiv
2206.06522, section 3.2). What this leaves out: where the states come from, and what becomes of the result
(``method``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch

from hf_align.adapters.blocks import find_stacks
from hf_align.adapters.ladder.shape import side_config
from hf_align.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class States:
    """States of the backbone (B, T, d), without gradients.

    ``first``: the embeddings of the tokens; ``rungs``: after the blocks that the ladder reads, in order.
    """

    first: torch.Tensor
    rungs: list[torch.Tensor] = field(default_factory=list)


class DownProjection(torch.nn.Linear):
    """d to d / r, without a bias, for states in whatever type they come.

    Under autocast they keep it, since a copy in float32 would be kept for the backward pass.
    """

    def __init__(self, width: int, side_width: int) -> None:
        super().__init__(width, side_width, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        autocast = torch.is_autocast_enabled(states.device.type)
        return super().forward(states if autocast else states.to(self.weight.dtype))


class SideBlock(torch.nn.Module):
    """A side block behind its gate: block(mu * down(state) + (1 - mu) * hidden), mu = sigmoid(alpha / T).

    The gate stands before the block and outside of it: gradient checkpointing recomputes the block alone.
    Whatever else is asked of it, the block answers.
    """

    def __init__(self, block: torch.nn.Module, width: int, side_width: int, temperature: float) -> None:
        super().__init__()
        self.block = block
        self.down = DownProjection(width, side_width)
        self.alpha = torch.nn.Parameter(torch.zeros(1))
        self.temperature = temperature
        self.state: torch.Tensor | None = None

    @property
    def gate(self) -> torch.Tensor:
        """(1,) mu: the share of the backbone's state."""
        return torch.sigmoid(self.alpha / self.temperature)

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert self.state is not None
        # In float32, whatever the precision: a step moves the gate by less than bfloat16 resolves.
        mixed = torch.lerp(hidden.float(), self.down(self.state).float(), self.gate)
        return self.block(mixed.to(self.alpha.dtype), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "block":  # not there yet
                raise
            return getattr(self.block, name)


class SideStack(torch.nn.Module):
    """The side network of ``stack``, with a rung for each of its blocks in ``layers``, with random weights.

    Raises UserError where the class of the stack cannot be built in a smaller size.
    """

    def __init__(
        self, stack: torch.nn.Module, layers: Sequence[int], *, reduction: int, temperature: float
    ) -> None:
        super().__init__()
        config: Any = side_config(stack.config, reduction, layers)
        self.layers = list(layers)
        try:
            self.stack = type(stack)(config)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
            raise UserError(_cannot(stack, error)) from error
        width, side_width = stack.config.hidden_size, config.hidden_size
        self.width = side_width
        self.first = DownProjection(input_embeddings(stack).weight.shape[1], side_width)
        blocks = block_list(self.stack)
        for number, block in enumerate(blocks):
            blocks[number] = SideBlock(block, width, side_width, temperature)
        if len(blocks) != len(layers):
            raise UserError(_cannot(stack, ValueError(f"{len(blocks)} blocks in place of {len(layers)}")))
        self.cross_attention = _attends_to_encoder(stack)
        self._leave_out_unused(stack)

    @property
    def rungs(self) -> list[SideBlock]:
        rungs: Any = block_list(self.stack)
        return list(rungs)

    def forward(self, states: States, **kwargs: Any) -> torch.Tensor:
        """Final side states (B, T, d / r). ``kwargs``: those of the backbone's stack, but for its inputs."""
        with self._fed(states):
            output = self.stack(inputs_embeds=self.first(states.first), **kwargs)
            result: torch.Tensor = output.last_hidden_state
            return result

    @contextlib.contextmanager
    def _fed(self, states: States) -> Iterator[None]:
        """Hand each rung its state, for one run."""
        rungs = self.rungs
        for rung, state in zip(rungs, states.rungs, strict=True):
            rung.state = state
        try:
            yield
        finally:
            for rung in rungs:
                rung.state = None

    def match_attention(self, stack: torch.nn.Module) -> None:
        """Use the attention implementation that the backbone uses now."""
        wanted = stack.config._attn_implementation
        if self.stack.config._attn_implementation != wanted:
            self.stack.set_attn_implementation(wanted)

    def _leave_out_unused(self, stack: torch.nn.Module) -> None:
        """Make weights that take no part, such as the embedding of tokens, buffers that are not saved.

        They are found by trying.
        """
        embedded, state = (
            torch.zeros(1, 2, self.first.in_features),
            torch.zeros(1, 2, stack.config.hidden_size),
        )
        kwargs: dict[str, Any] = {"use_cache": False}
        if self.cross_attention:
            kwargs["encoder_hidden_states"] = torch.zeros(1, 2, self.width)
        training = self.stack.training
        self.stack.eval()
        try:
            named = dict(self.stack.named_parameters())
            with torch.enable_grad():
                output = self(States(embedded, [state] * len(self.layers)), **kwargs)
                used = torch.autograd.grad(output.float().sum(), list(named.values()), allow_unused=True)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
            raise UserError(_cannot(stack, error)) from error
        finally:
            self.stack.train(training)
        for (name, parameter), gradient in zip(named.items(), used, strict=True):
            if gradient is None:
                place, _, own = name.rpartition(".")
                module = self.stack.get_submodule(place)
                del module._parameters[own]
                module.register_buffer(own, parameter.detach(), persistent=False)


def block_list(stack: torch.nn.Module) -> torch.nn.ModuleList:
    """The blocks of a stack. Raises UserError where there are none."""
    return find_stacks(stack)[0][1]


def input_embeddings(stack: torch.nn.Module) -> torch.nn.Module:
    """The module that turns token ids into vectors."""
    return cast("PreTrainedModel", stack).get_input_embeddings()


def _attends_to_encoder(stack: torch.nn.Module) -> bool:
    config: Any = stack.config
    decoder = getattr(config, "is_decoder", False) or "Decoder" in type(stack).__name__
    return bool(getattr(config, "is_encoder_decoder", False) and decoder)


def _cannot(stack: torch.nn.Module, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else "no message"
    return (
        f"adapter: ladder cannot be built for {type(stack).__name__} ({type(error).__name__}: {reason}); "
        "choose another adapter"
    )
