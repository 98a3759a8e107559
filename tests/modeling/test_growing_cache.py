"""A cache written in place holds what transformers' own holds, also beyond its room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_models import tiny_model
from transformers import DynamicCache

from hf_align.errors import UserError
from hf_align.modeling.growing_cache import (
    GrowingLayer,
    cache_keyword,
    check_written,
    growing_cache,
    grows_everywhere,
    pick_rows,
)


@pytest.mark.parametrize("room", [0, 3, 50])
@torch.no_grad()
def test_the_same_logits_whatever_the_room(room: int) -> None:
    model, ids = tiny_model("llama"), torch.arange(3, 27).view(2, 12)
    ours, theirs = growing_cache(model.config, room), DynamicCache(config=model.config)
    for start, end in ((0, 7), (7, 8), (8, 12)):
        found = model(ids[:, start:end], past_key_values=ours).logits
        expected = model(ids[:, start:end], past_key_values=theirs).logits
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


def test_windows_keep_their_own_form_and_names_differ() -> None:
    assert not grows_everywhere(growing_cache(tiny_model("mistral").config, 4))
    assert cache_keyword(tiny_model("mamba")) == "cache_params"
    assert cache_keyword(tiny_model("llama")) == "past_key_values"
    empty = SimpleNamespace(layers=[SimpleNamespace(is_initialized=False)])
    with pytest.raises(UserError, match="keeps nothing in the cache"):
        check_written(tiny_model("llama"), empty)  # type: ignore[arg-type]
