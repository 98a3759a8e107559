"""A row gives the same whatever it is computed with, also where the length of its neighbours counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_models import VOCABULARY, random_rows, redraw, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.data.batching import split_by_tokens
from hf_align.errors import UserError
from hf_align.evaluation.scoring import make_scorer
from hf_align.modeling.attention.padding_probe import settle_padding, takes_no_padding
from hf_align.modeling.lengths_apart import lengths_apart

BOUND = 9


def built(model_type: str, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(model_type, **sizes, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.25)
    return model


def longrope() -> Any:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [1.5, 3.0, 6.0, 12.0],
    }
    return built(
        "phi3",
        intermediate_size=48,
        num_key_value_heads=2,
        max_position_embeddings=64,
        original_max_position_embeddings=BOUND,
        eos_token_id=2,
        rope_parameters=rope,
        pad_token_id=0,
    )


def cpmant() -> Any:
    return built("cpmant", dim_head=8, dim_ff=48, prompt_length=4, prompt_types=32, segment_types=32)


class Tokenizer:
    pad_token_id = 0


@pytest.mark.parametrize(("model", "packing"), [(longrope, True), (longrope, False), (cpmant, True)])
def test_scores_of_a_row_do_not_depend_on_what_stands_beside_it(model: Any, packing: bool) -> None:
    tokenizer: Any = Tokenizer()
    scorer = make_scorer(model(), tokenizer, precision="fp32", packing=packing, max_tokens=4096)
    rows = random_rows([5, 16, 9, 10, 12, 9, 4])
    together = scorer.rows(rows)
    for row, found in zip(rows, together, strict=True):
        np.testing.assert_allclose(found, scorer.rows([row])[0], atol=1e-4)
    # And what they give is what the model gives by itself.
    plain = model()
    for row, found in zip(rows, together, strict=True):
        ids = torch.from_numpy(row.input_ids.astype(np.int64))[None]
        with torch.no_grad():
            logps = plain(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(dim=-1)
        expected = logps.gather(1, ids[0, 1:, None])[:, 0][torch.from_numpy(row.target_mask[1:])]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_micro_batches_of_a_model_with_two_sets_of_positions() -> None:
    rows = random_rows([5, 16, 9, 10, 12, 9, 4])
    model = longrope()
    apart = lengths_apart(torch.nn.Sequential(model), padded=False)
    batches = split_by_tokens(rows, 30, apart=apart)
    assert [[len(row) for row in batch] for batch in batches] == [[16, 12], [10], [9, 9, 5, 4]]
    virtual = apply_adapter(model, AdapterConfig(adapter="prompt", num_virtual_tokens=4))
    assert lengths_apart(virtual, padded=True)((6,)) is True, "virtual tokens take positions"
    assert lengths_apart(virtual, padded=True)((3, 5)) is False
    assert lengths_apart(tiny_model("llama"), padded=True) is None


def test_answers_of_unequal_length_and_a_model_that_takes_no_padding() -> None:
    model = cpmant()
    settle_padding(model)
    apart = lengths_apart(model, padded=True)
    assert apart((7, 7)) == 7
    with pytest.raises(UserError, match="CpmAntForCausalLM gives something else for a row beside padding"):
        apart((7, 8))
    assert lengths_apart(model, padded=False) is None


@pytest.mark.parametrize("family", ["bloom", "falcon", "mpt", "gpt_neo", "mamba", "llama", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_most_families_take_padding(
    family: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(family).to(dtype)
    settle_padding(model)
    assert not takes_no_padding(model)
    assert "padding" not in caplog.text
