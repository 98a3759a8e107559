"""What rows and columns of a block mean: forms that are not known are refused."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_ladders import laddered

from hf_align.errors import UserError


def test_blocks_of_another_form_are_refused_with_the_way_out() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mixtral",
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    base = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with pytest.raises(UserError):
        laddered(base)
