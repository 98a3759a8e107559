"""The shape of a side network: which layers it stands beside, and models that it cannot be smaller than."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.tiny_ladders import laddered, ladders, tiny_ladder
from helpers.tiny_models import tiny_model

from hf_align.adapters.ladder.shape import kept_layers
from hf_align.errors import UserError


def test_layers_are_counted_from_the_last_or_chosen() -> None:
    assert kept_layers(30, every=1, chosen=None) == list(range(30))
    assert kept_layers(7, every=3, chosen=None) == [0, 3, 6]
    assert kept_layers(6, every=4, chosen=None) == [1, 5]
    assert kept_layers(6, every=1, chosen=[5, 0, 5]) == [0, 5]
    for chosen in ([6], [-1], []):
        with pytest.raises(UserError, match=r"ladder_layers.*0 to 5"):
            kept_layers(6, every=1, chosen=chosen)
    with pytest.raises(UserError, match="ladder_every"):
        kept_layers(6, every=7, chosen=None)


def test_layer_types_follow_the_layers_that_are_kept() -> None:
    base = tiny_model("gemma2")
    assert base.config.layer_types == ["sliding_attention", "full_attention"]
    (ladder,) = ladders(laddered(base, layers=[1]))
    assert ladder.side.stack.config.layer_types == ["full_attention"]


def test_models_without_attention_and_too_small_ones_are_refused() -> None:
    with pytest.raises(UserError, match="no transformer blocks were found in Mamba"):
        tiny_ladder("mamba", init="random")
    with pytest.raises(UserError, match=r"ladder_reduction_factor: found 2.*width of 32"):
        laddered(_with_one_head(), reduction_factor=2)


def _with_one_head() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=1, n_positions=32))
