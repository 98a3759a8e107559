"""A cache written in place holds what transformers' own holds, also beyond its room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model
from transformers import DynamicCache, LlamaForCausalLM

from hf_align.errors import UserError
from hf_align.modeling.growing_cache import (
    GrowingLayer,
    cache_keyword,
    check_written,
    growing_cache,
    grows_everywhere,
    pick_rows,
    rename_cache,
)
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_tokens


@pytest.mark.parametrize("room", [0, 3, 50])
@torch.no_grad()
def test_the_same_logits_whatever_the_room(room: int) -> None:
    model, ids = tiny_model("llama"), torch.arange(3, 27).view(2, 12)
    ours, theirs = growing_cache(model.config, room), DynamicCache(config=model.config)
    for start, end in ((0, 7), (7, 8), (8, 12)):
        found = model(ids[:, start:end], **{cache_keyword(model): ours}).logits
        expected = model(ids[:, start:end], **{cache_keyword(model): theirs}).logits
        assert torch.equal(found, expected)
    assert grows_everywhere(ours) and not grows_everywhere(theirs)
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert torch.equal(mine.keys, other.keys) and torch.equal(mine.values, other.values)
    picked = torch.tensor([1, 1, 0])
    pick_rows(ours, picked)
    assert torch.equal(ours.layers[0].keys, theirs.layers[0].keys[picked])


def test_nothing_is_copied_while_there_is_room() -> None:
    layer = GrowingLayer(room=4)
    layer.update(torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8))
    place = layer.keys.data_ptr()
    for _ in range(4):
        layer.update(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8))
        assert layer.keys.data_ptr() == place
    layer.update(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8))
    assert layer.keys.data_ptr() != place and layer.get_seq_length() == 8


class TakesPastKeyValues(LlamaForCausalLM):
    """As every family before transformers 5.24."""

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **kwargs: Any) -> Any:
        return super().forward(input_ids, **rename_cache({"cache": past_key_values}, LLAMAS_OWN), **kwargs)


class TakesCache(LlamaForCausalLM):
    """As every family from transformers 5.24 on."""

    def forward(self, input_ids: Any = None, cache: Any = None, **kwargs: Any) -> Any:
        return super().forward(input_ids, **rename_cache({"cache": cache}, LLAMAS_OWN), **kwargs)


LLAMAS_OWN = cache_keyword(LlamaForCausalLM.__new__(LlamaForCausalLM))


@pytest.mark.parametrize(
    ("family", "keyword"), [(TakesPastKeyValues, "past_key_values"), (TakesCache, "cache")]
)
def test_either_keyword_is_found_and_used(
    family: type[LlamaForCausalLM], keyword: str, recwarn: pytest.WarningsRecorder
) -> None:
    plain = tiny_model("llama")
    model = family(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    assert cache_keyword(model) == keyword
    prompts, sampling = [[5, 6, 7], [8, 9]], Sampling(max_new_tokens=5)
    found, expected = (
        sample_continuations(each, prompts, sampling, stop_ids=[], pad_token_id=0, samples=2)
        for each in (model, plain)
    )
    assert [one.tokens.tolist() for one in found] == [one.tokens.tolist() for one in expected]
    assert list(stream_tokens(model, prompts[0], sampling, stop_ids=[])) == found[0].tokens.tolist()
    assert [str(warning.message) for warning in recwarn if "cache" in str(warning.message)] == []


def test_the_cache_goes_under_the_models_own_keyword() -> None:
    class Recurrent:
        def forward(self, input_ids: Any, cache_params: Any = None) -> None: ...

    assert cache_keyword(Recurrent()) == "cache_params"
    assert rename_cache({"past_key_values": 1, "cache": None, "x": None}, "cache") == {"cache": 1, "x": None}
    assert rename_cache({"cache": None, "x": 2}, "past_key_values") == {"x": 2}


def test_windows_keep_their_own_form() -> None:
    assert not grows_everywhere(growing_cache(tiny_model("mistral").config, 4))
    empty = SimpleNamespace(layers=[SimpleNamespace(is_initialized=False)])
    with pytest.raises(UserError, match="keeps nothing in the cache"):
        check_written(tiny_model("llama"), empty)  # type: ignore[arg-type]
