"""Virtual tokens before each sequence: PEFT's prompt, p-tuning and prefix models in batches of this package.

PEFT puts the virtual tokens of a row before everything in it. Batches are therefore padded, never packed, and
what counts positions of a row (targets, last tokens, places in a cache) has to count the virtual ones as
well. What this leaves out: the virtual tokens themselves, which are PEFT's.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

import torch

from hf_align.modeling.growing_cache import cache_keyword, rename_cache
from hf_align.types import IGNORE_INDEX

_MARK = "hf_align_virtual_tokens"


def count_virtual_tokens(model: Any) -> int:
    """How many virtual tokens stand before each row; 0 for any other model.

    ``model``: as ``install_virtual_tokens`` got it, or its base.
    """
    return int(getattr(model, _MARK, 0))


def install_virtual_tokens(model: Any) -> None:
    """Let a PEFT model with virtual tokens take ``shift_labels`` and ``last_tokens`` of padded batches.

    Does nothing to any other model.
    """
    active = getattr(model, "active_peft_config", None)
    if active is None or not active.is_prompt_learning or count_virtual_tokens(model):
        return
    base = model.get_base_model()
    setattr(base, _MARK, int(active.num_virtual_tokens))
    model.register_forward_pre_hook(_count_virtual, with_kwargs=True)
    if not _at_inputs(model) and cache_keyword(base) != "past_key_values":
        _take_past_key_values(base)


def _at_inputs(model: Any) -> bool:
    """Whether the virtual tokens are inputs, as those of prompts are; a prefix lies in the cache."""
    return str(getattr(model.active_peft_config.peft_type, "value", "")) != "PREFIX_TUNING"


def _take_past_key_values(base: Any) -> None:
    """Let the ``forward`` of ``base`` take PEFT's prefix as ``past_key_values``.

    PEFT 0.21 knows no other keyword: it refuses classifiers that lack it in their signature, and transformers
    5.24 warns of it.
    """
    keyword = cache_keyword(base)
    original = base.__dict__.get("forward")

    @functools.wraps(type(base).forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = original or functools.partial(type(self).forward, self)
        return call(*args, **rename_cache(kwargs, keyword))

    signature = inspect.signature(type(base).forward)
    named = [*signature.parameters.values()]
    place = next((i for i, each in enumerate(named) if each.kind is each.VAR_KEYWORD), len(named))
    named.insert(place, inspect.Parameter("past_key_values", inspect.Parameter.KEYWORD_ONLY, default=None))
    described: Any = forward
    described.__signature__ = signature.replace(parameters=named)
    # Bound as a method, so that a deep copy of the model gets a forward of its own.
    base.forward = types.MethodType(described, base)


def _count_virtual(model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The same targets and last tokens, counted in rows that begin with the virtual tokens."""
    if model._adapters_disabled:
        return None
    changed = dict(kwargs)
    # Rows are padded on the right, so positions are what the model counts by itself; PEFT warns of any.
    changed.pop("position_ids", None)
    if not _at_inputs(model):
        return args, changed
    count = count_virtual_tokens(model)
    if kwargs.get("shift_labels") is not None:
        changed["shift_labels"] = torch.nn.functional.pad(
            kwargs["shift_labels"], (count, 0), value=IGNORE_INDEX
        )
    if kwargs.get("last_tokens") is not None:
        width = kwargs["input_ids"].shape[1]
        changed["last_tokens"] = kwargs["last_tokens"] + count * (kwargs["last_tokens"] // width + 1)
    return args, changed


class PromptedModel:
    """A PEFT model with virtual tokens, to be called as a plain one that continues sequences from a cache.

    The caller counts its own tokens only; masks and positions are made longer here.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.base = model.get_base_model()
        self.count = count_virtual_tokens(model)
        self.cache_keyword = cache_keyword(model)
        self.config, self.device = model.config, model.device

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        cache: Any,
        **kwargs: Any,
    ) -> Any:
        """Arguments as of a causal language model of transformers; an empty ``cache`` begins a sequence."""
        rows = len(input_ids)
        inputs: dict[str, Any] = {"input_ids": input_ids, "position_ids": position_ids + self.count}
        if attention_mask is not None:
            inputs["attention_mask"] = torch.nn.functional.pad(attention_mask, (self.count, 0), value=1)
        if cache.get_seq_length() == 0:
            virtual = self.model.get_prompt(batch_size=rows)
            if _at_inputs(self.model):
                embedded = self.base.get_input_embeddings()(input_ids)
                first = torch.arange(self.count, device=self.device).expand(rows, -1)
                inputs["inputs_embeds"] = torch.cat([virtual.to(embedded.dtype), embedded], dim=1)
                inputs["position_ids"] = torch.cat([first, inputs["position_ids"]], dim=1)
                del inputs["input_ids"]
            else:
                for number, layer in enumerate(virtual.layers):
                    cache.update(layer.keys, layer.values, number)
        return self.base(**inputs, **{self.cache_keyword: cache}, **kwargs)
