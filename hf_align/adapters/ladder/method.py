"""Ladder side tuning: a small network beside a frozen backbone, fed by its states (arXiv 2206.06522).

The backbone runs without gradients and keeps no activations; what is trained is a narrow copy of its stack
(``side``), each block of which sees a gated mix of its own input and of a downsampled state of the
backbone. An up-projection leads into the frozen head, in one of two ways:

* ``add``: head(h + up(g)) with h the backbone's final states, g the side network's and up = 0 at the start,
  so that the outputs at the start are the base's own. The default, since preference losses rely on it.
* ``replace``: head(up(g)), as in the paper. Nothing is promised of the start.

The backbone always runs in evaluation mode: dropout in it would be noise that nothing learns to use, and
states that are read from disk would differ from computed ones. What this leaves out: training of the head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from hf_align.adapters.blocks import find_blocks
from hf_align.adapters.ladder.generation import new_cache, side_cache, side_prompts
from hf_align.adapters.ladder.init import prune_into
from hf_align.adapters.ladder.shape import kept_layers
from hf_align.adapters.ladder.side import SideStack, States, block_list, input_embeddings
from hf_align.adapters.method import Added, Method
from hf_align.errors import UserError
from hf_align.modeling.growing_cache import CACHE_KEYWORDS, cache_keyword, rename_cache
from hf_align.modeling.heads.trunk import find_trunk
from hf_align.modeling.quantization import independent_rows

_NOT_FOR_SIDE = (
    "input_ids",
    "inputs_embeds",
    *CACHE_KEYWORDS,
    "token_type_ids",
    "use_cache",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "encoder_hidden_states",
)


@dataclass(frozen=True)
class LadderOptions:
    """``reduction_factor``: r, the backbone's width over the side network's. ``every``, ``layers``: which
    blocks have one beside them (``shape.kept_layers``). ``temperature``: T of the gates. ``init``:
    ``pruned`` (``init``) or ``random``. ``output``: see above.
    """

    reduction_factor: int = 8
    every: int = 1
    layers: list[int] | None = None
    temperature: float = 0.1
    init: Literal["pruned", "random"] = "pruned"
    output: Literal["add", "replace"] = "add"


class KnownStates(Protocol):
    """Where states of the backbone may be found in place of running it; see ``states``."""

    def find(self, arguments: Mapping[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor | None] | None:
        """(states after the blocks that the ladder reads, final states if they were kept) of a batch, which
        is given by the arguments of the stack; None where they are not all known."""


class Ladder(Added):
    """The side network of one stack: of a decoder, or of the decoder in an encoder-decoder model."""

    def __init__(self, side: SideStack, width: int, output: str) -> None:
        super().__init__()
        self.side = side
        self.up = torch.nn.Linear(side.width, width, bias=False)
        self.adds = output == "add"
        if self.adds:
            torch.nn.init.zeros_(self.up.weight)
        self.known: KnownStates | None = None

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        given = _named(base, args, kwargs)
        found = None
        if self.known is not None and not given.get("use_cache") and cache_keyword(base) not in given:
            found = self.known.find(given)
        if found is None:
            output, states, caches = _run_backbone(base, self.side, given)
            final = output.last_hidden_state
        else:
            output, caches = None, {"use_cache": False}
            states, final = States(_embedded(base, given), found[0]), found[1]
        raised = self.up(_run_side(base, self.side, states, given, caches))
        result = final + raised.to(final.dtype) if self.adds else raised.to(states.first.dtype)
        return _with_final(output, result, given)

    def compute(
        self, base: torch.nn.Module, arguments: Mapping[str, Any]
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """What ``KnownStates.find`` gives, from running the backbone ``base``."""
        output, states, _ = _run_backbone(base, self.side, {**arguments, "use_cache": False})
        return states.rungs, output.last_hidden_state if self.adds else None


class EncoderLadder(Added):
    """The side network of an encoder. Its states (B, T, d / r) go to the decoder's behind the encoder's own.

    They are appended to the last dimension, so that they stay with them wherever generation takes them.
    """

    def __init__(self, side: SideStack) -> None:
        super().__init__()
        self.side = side

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        given = _named(base, args, kwargs)
        output, states, caches = _run_backbone(base, self.side, given)
        result = _run_side(base, self.side, states, given, caches)
        both = torch.cat([output.last_hidden_state, result.to(output.last_hidden_state.dtype)], dim=-1)
        return _with_final(output, both, given)


def attach(base: Any, options: LadderOptions) -> dict[str, Added]:
    """The side networks of a decoder, or of both stacks of an encoder-decoder model, by the stack's path.

    Raises UserError for a model that has no such stack, for an encoder alone, and where the options do not
    fit the model.
    """
    paths = {id(module): path for path, module in base.named_modules()}
    if base.config.is_encoder_decoder:
        stacks = [base.get_encoder(), base.get_decoder()]
    else:
        # Where a head calls the decoder inside the base model, that has to be the ladder's.
        stacks = [base if base.base_model is base else base.get_submodule(find_trunk(base))]
    if not base.config.is_encoder_decoder and block_list(base) and _sees_ahead(base):
        raise UserError(
            f"adapter: ladder is made for decoders and encoder-decoder models, and {type(base).__name__} is "
            "an encoder, whose head may read more than its last states; choose another adapter, such as lora"
        )
    blocks = find_blocks(base) if options.init == "pruned" else []
    added: dict[str, Added] = {}
    encoder_stream = None
    for stack in stacks:
        path = paths.get(id(stack))
        if not path:
            raise UserError(
                f"adapter: ladder finds no stack of blocks in {type(base).__name__} apart from its head"
            )
        listed = block_list(stack)
        layers = kept_layers(len(listed), every=options.every, chosen=options.layers)
        side = SideStack(stack, layers, reduction=options.reduction_factor, temperature=options.temperature)
        is_encoder = base.config.is_encoder_decoder and stack is stacks[0]
        added[path] = (
            EncoderLadder(side) if is_encoder else Ladder(side, stack.config.hidden_size, options.output)
        )
        if options.init == "pruned":
            by_path = {block.path: block for block in blocks}
            beside = [by_path[paths[id(listed[layer])]] for layer in layers]
            stream = prune_into(side, stack, base, beside, encoder_stream=encoder_stream)
            encoder_stream = stream if is_encoder else None
    return added


def _sees_ahead(base: Any) -> bool:
    """Whether a token changes the states before it."""
    ids = torch.ones(2, 4, dtype=torch.long, device=next(base.parameters()).device)
    ids[1, 3] = 2
    training = base.training
    base.eval()
    try:
        with torch.no_grad(), independent_rows(base):
            one, other = base.base_model(input_ids=ids).last_hidden_state[:, :3].float()
    finally:
        base.train(training)
    return bool(torch.linalg.vector_norm(one - other) > 1e-3 * torch.linalg.vector_norm(one))


def _run_backbone(
    base: torch.nn.Module, side: SideStack, given: Mapping[str, Any]
) -> tuple[Any, States, dict[str, Any]]:
    """(output of the backbone, its states for the ladder, arguments of the side network for its cache)."""
    if base.training:
        base.eval()
    config: Any = base.config
    caches: dict[str, Any] = {"use_cache": False}
    given = {**given, "return_dict": True}
    use_cache = given.get("use_cache")
    if not side.cross_attention and getattr(config, "is_encoder_decoder", False):
        use_cache = False  # an encoder
    elif config.use_cache if use_cache is None else use_cache:
        keyword = cache_keyword(base)
        cache = given.setdefault(keyword, new_cache(config))
        caches = {"use_cache": True, keyword: side_cache(cache, side.layers, len(block_list(base)))}
    if given.get("encoder_hidden_states") is not None:
        # Contiguous, so that the backbone computes what it computes without a ladder, bit for bit.
        given["encoder_hidden_states"] = given["encoder_hidden_states"][
            ..., : config.hidden_size
        ].contiguous()
    with torch.no_grad(), _recorded(base, side) as states:
        output = base(**given)
    return output, states, caches


def _embedded(base: torch.nn.Module, given: Mapping[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        embedded: torch.Tensor = input_embeddings(base)(given["input_ids"])
        return embedded


def _run_side(
    base: torch.nn.Module,
    side: SideStack,
    states: States,
    given: Mapping[str, Any],
    caches: Mapping[str, Any],
) -> torch.Tensor:
    """Final states of the side network, called with those arguments of the backbone's stack that it needs."""
    side.match_attention(base)
    kept = {name: value for name, value in given.items() if name not in _NOT_FOR_SIDE}
    encoded = given.get("encoder_hidden_states")
    if encoded is not None:
        if encoded.shape[-1] <= side.width:
            raise ValueError("these encoder states were computed without the ladder")
        kept["encoder_hidden_states"] = encoded[..., -side.width :]
    shared = given.get("shared_prompts")
    if shared is None:
        final: torch.Tensor = side(states, **kept, **caches)
        return final
    count = len(block_list(base))
    view = kept["shared_prompts"] = side_prompts(shared, count)
    result: torch.Tensor = side(states, **kept, **caches)
    shared.layers_used.update(count + layer for layer in view.layers_used)
    return result


def _with_final(output: Any, final: torch.Tensor, given: Mapping[str, Any]) -> Any:
    """``output`` with other final states; a new one where the backbone has not run."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    output = BaseModelOutputWithPast() if output is None else output
    output.last_hidden_state = final
    if output.get("hidden_states") is not None:
        output.hidden_states = (*output.hidden_states[:-1], final)
    return output.to_tuple() if given.get("return_dict") is False else output


def _named(base: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name, the cache by the model's own, without those that are None."""
    names = inspect.signature(base.forward).parameters
    named = rename_cache({**dict(zip(names, args, strict=False)), **kwargs}, cache_keyword(base))
    return {name: value for name, value in named.items() if value is not None}


@contextmanager
def _recorded(base: torch.nn.Module, side: SideStack) -> Iterator[States]:
    """The embeddings and the states after the blocks that the side network reads, once ``base`` has run."""
    states = States(torch.empty(0))
    blocks = block_list(base)

    def embedded(_: Any, __: Any, output: torch.Tensor) -> None:
        states.first = output.detach()

    def passed(_: Any, __: Any, output: Any) -> None:
        states.rungs.append((output if isinstance(output, torch.Tensor) else output[0]).detach())

    handles = [input_embeddings(base).register_forward_hook(embedded)]
    handles += [blocks[layer].register_forward_hook(passed) for layer in side.layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


LADDER = Method(
    "ladder",
    LadderOptions,
    attach,
    not_mergeable="a ladder is a network beside the base, which no change of the base's weights gives",
)
