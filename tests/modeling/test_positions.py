"""How many tokens a model has positions for, and rows that are longer."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForMaskedLM

from hf_align.errors import UserError
from hf_align.modeling.positions import check_context, count_positions


def test_positions_before_the_padding_do_not_count() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "roberta", **sizes, intermediate_size=16, max_position_embeddings=20, pad_token_id=1
    )
    model = AutoModelForMaskedLM.from_config(config).eval()
    limit = count_positions(model)
    assert limit == 18
    with torch.no_grad():
        model(torch.full((1, limit), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, limit + 1), 5))


def test_rows_that_are_too_long() -> None:
    model = tiny_model("gpt2")
    limit = count_positions(model)
    assert limit is not None
    check_context(model, limit)
    with pytest.raises(
        UserError, match=rf"max_length: rows have up to {limit + 1} .* set max_length to {limit}"
    ):
        check_context(model, limit + 1)
    with pytest.raises(UserError, match="of which num_virtual_tokens takes 4"):
        check_context(model, limit - 3, key="block_length", virtual_tokens=4)
