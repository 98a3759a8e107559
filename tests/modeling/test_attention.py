"""Segment attention against the textbook formula, and the traps around masks."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model
from transformers import masking_utils

from hf_align.data.packing import make_segments, pack_rows
from hf_align.modeling import attention
from hf_align.modeling.attention import segment_attention, segment_attention_loop
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.packing_probe import enable_segment_attention
from hf_align.types import Segments

LENGTHS = (5, 1, 9)


def segments() -> Segments:
    return Segments((0, 5, 6), LENGTHS, torch.tensor([0, 5, 6, 15], dtype=torch.int32))


def textbook(q, k, v, scaling, window, softcap) -> torch.Tensor:
    """softmax(cap(q k^T * s) + mask) v with an explicit block-diagonal causal mask."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    place = torch.arange(sum(LENGTHS))
    allowed = (owner[:, None] == owner[None, :]) & (place[:, None] >= place[None, :])
    if window is not None:
        allowed &= place[:, None] - place[None, :] < window
    scores = q @ k.transpose(-1, -2) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v).transpose(1, 2)


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


def loop_as_kernel(q, k, v, cu_seqlens, cu_seqlens_k, longest, longest_k, *, scale, window_size, enable_gqa):
    """What PyTorch's variable-length kernel computes, one segment at a time: (T, H, D) in and out.

    The queries of a segment are aligned with the last of its keys.
    """
    queries, keys = cu_seqlens.diff(), cu_seqlens_k.diff()
    assert (longest, longest_k) == (queries.max(), keys.max())
    outputs = []
    pieces = (x.split(n.tolist()) for x, n in ((q, queries), (k, keys), (v, keys)))
    for some_q, some_k, some_v in zip(*pieces, strict=True):
        rows = torch.arange(len(some_k) - len(some_q), len(some_k))[:, None]
        distance = rows - torch.arange(len(some_k))[None, :]
        allowed = distance >= 0
        if window_size[0] >= 0:
            allowed &= distance <= window_size[0]
        output = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in (some_q, some_k, some_v)),
            attn_mask=allowed,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def broken_kernel(*_, **__):
    raise RuntimeError("no kernel for this device")


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize(
    ("kernel", "agrees"),
    [
        (loop_as_kernel, True),
        (lambda *args, **kwargs: loop_as_kernel(*args, **kwargs) * 1.2, False),
        (broken_kernel, False),
    ],
    ids=["right", "wrong", "broken"],
)
def test_the_variable_length_kernel_is_tried_before_it_is_used(
    kernel, agrees: bool, windowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_varlen_kernel", lambda: kernel)
    attention._varlen_agrees.cache_clear()
    device = torch.device("cpu")
    assert attention._varlen_agrees(device, torch.bfloat16, 4, 2, 16, windowed) is agrees
    attention._varlen_agrees.cache_clear()


def test_the_variable_length_path_equals_the_textbook_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_varlen_kernel", lambda: loop_as_kernel)
    torch.manual_seed(0)
    q = torch.randn(1, 4, 15, 8)
    k, v = torch.randn(2, 1, 2, 15, 8).unbind(0)
    for window in (None, 4):
        output = attention._varlen(q, k, v, segments(), 0.7, window)
        torch.testing.assert_close(output, textbook(q, k, v, 0.7, window, None), rtol=1e-5, atol=1e-6)


def test_the_variable_length_path_equals_the_loop_on_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_varlen_kernel", lambda: loop_as_kernel)
    tree = make_segments((6, 4, 1, 9, 3), (-1, 0, 0, -1, 3))
    torch.manual_seed(0)
    q = torch.randn(1, 4, 23, 8)
    k, v = torch.randn(2, 1, 2, 23, 8).unbind(0)
    for window in (None, 5):
        output = attention._varlen(q, k, v, tree, 0.7, window)
        expected = attention._loop(q, k, v, tree, 0.7, 0.0, window, None)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
        # The loop's path for other devices and for dropout takes masks instead of blocks.
        masked = attention._loop(q, k, v, tree, 0.7, 1e-12, window, None)
        torch.testing.assert_close(masked, expected, rtol=1e-5, atol=1e-6)
