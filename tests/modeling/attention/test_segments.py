"""Segment attention against the textbook formula, and the traps around masks."""

from __future__ import annotations

import pytest
import torch
from helpers.textbook_attention import segments, textbook
from helpers.tiny_models import random_rows, tiny_model
from transformers import masking_utils

from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.attention.segments import segment_attention, segment_attention_loop
from hf_align.modeling.inputs import model_inputs


@pytest.mark.parametrize("attend", [segment_attention, segment_attention_loop])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_equals_the_textbook_formula(attend, heads: tuple[int, int], window, softcap) -> None:
    torch.manual_seed(0)
    q = torch.randn(1, heads[0], 15, 8)
    k, v = torch.randn(2, 1, heads[1], 15, 8).unbind(0)
    options = {"scaling": 0.7, "sliding_window": window, "softcap": softcap}
    output, weights = attend(torch.nn.Identity(), q, k, v, None, segments=segments(), **options)
    assert weights is None
    torch.testing.assert_close(output, textbook(q, k, v, 0.7, window, softcap), rtol=1e-5, atol=1e-6)


def test_what_changes_the_result_and_is_not_supported_is_refused() -> None:
    x = torch.randn(1, 2, 15, 8)
    with pytest.raises(TypeError, match="s_aux"):
        segment_attention(torch.nn.Identity(), x, x, x, None, segments=segments(), s_aux=torch.ones(2))
    with pytest.raises(TypeError, match="position_bias"):
        segment_attention_loop(torch.nn.Identity(), x, x, x, None, segments=segments(), position_bias=x)


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_no_dense_mask_is_built_for_a_packed_row(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    assert enable_segment_attention(model)
    built = []
    original = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS[model.config._attn_implementation]

    def watch(*args, **kwargs):
        built.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setitem(
        masking_utils.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, model.config._attn_implementation, watch
    )
    inputs = model_inputs(pack_rows(random_rows([20, 12])))
    inputs.pop("shift_labels")
    model(**inputs)
    assert built == []
    model(input_ids=inputs["input_ids"])
    assert built, "the watch itself must see an ordinary forward pass"


def test_left_padding_is_honoured_without_segments() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([[5, 6, 7, 8]])
    alone = model(input_ids=ids).logits[0]
    assert enable_segment_attention(model)
    padded = torch.tensor([[0, 0, 5, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2, 3]])
    output = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[0, 2:]
    torch.testing.assert_close(output, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_greedy_generation_is_unchanged_by_the_switch(family: str) -> None:
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    prompt = torch.tensor([[0, 0, 9, 10, 11, 12], [5, 6, 7, 8, 9, 10]])
    mask = (prompt != 0).long()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(prompt, attention_mask=mask, **options)
    assert enable_segment_attention(model)
    assert torch.equal(model.generate(prompt, attention_mask=mask, **options), expected)
