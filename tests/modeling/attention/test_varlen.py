"""The variable-length kernel: tried before it is used, and called with the right segments and windows."""

from __future__ import annotations

import pytest
import torch
from helpers.textbook_attention import segments, textbook

from hf_align.data.packing import make_segments
from hf_align.modeling.attention import varlen
from hf_align.modeling.attention.loop import attend_by_segments


def loop_as_kernel(
    q, k, v, cu_seqlens, cu_seqlens_k, longest, longest_k, *, scale, window_size, enable_gqa=False
):
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
    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    varlen._agrees.cache_clear()
    device = torch.device("cpu")
    assert varlen._agrees(device, torch.bfloat16, 4, 2, 16, windowed) is agrees
    varlen._agrees.cache_clear()


def test_the_variable_length_path_equals_the_textbook_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "_kernel", lambda: loop_as_kernel)
    torch.manual_seed(0)
    q = torch.randn(1, 4, 15, 8)
    k, v = torch.randn(2, 1, 2, 15, 8).unbind(0)
    for window in (None, 4):
        output = varlen.varlen_attention(q, k, v, segments(), 0.7, window)
        torch.testing.assert_close(output, textbook(q, k, v, 0.7, window, None), rtol=1e-5, atol=1e-6)


def test_the_variable_length_path_equals_the_loop_on_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "_kernel", lambda: loop_as_kernel)
    tree = make_segments((6, 4, 1, 9, 3), (-1, 0, 0, -1, 3))
    torch.manual_seed(0)
    q = torch.randn(1, 4, 23, 8)
    k, v = torch.randn(2, 1, 2, 23, 8).unbind(0)
    for window in (None, 5):
        output = varlen.varlen_attention(q, k, v, tree, 0.7, window)
        expected = attend_by_segments(q, k, v, tree, 0.7, 0.0, window, None)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


def test_torch_compile_takes_the_outcome_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, the trial would be made anew in every compilation, or end it."""
    tried = []
    monkeypatch.setattr(varlen, "_agrees", lambda *shape: tried.append(shape) is None)
    monkeypatch.setattr(varlen, "_kernel", lambda: loop_as_kernel)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        used = varlen._known(x.device, x.dtype, x.shape[0], 2, 16, False)
        return x * 2 if used and varlen._groups_are_named() else x

    compiled = torch.compile(scaled, backend="eager", fullgraph=True)
    assert compiled(torch.ones(4)).tolist() == [2] * 4
    assert compiled(torch.ones(4)).tolist() == [2] * 4
    assert tried == [(torch.device("cpu"), torch.float32, 4, 2, 16, False)]


@pytest.mark.parametrize("named", [True, False])
def test_grouped_heads_are_named_where_the_kernel_asks_for_it(
    named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch 2.11 has no word for them."""
    given = []

    def newer(*args, scale, window_size, enable_gqa=False):
        given.append(enable_gqa)
        return loop_as_kernel(*args, scale=scale, window_size=window_size, enable_gqa=enable_gqa)

    def older(*args, scale, window_size):
        return loop_as_kernel(*args, scale=scale, window_size=window_size, enable_gqa=True)

    monkeypatch.setattr(varlen, "_kernel", lambda: newer if named else older)
    torch.manual_seed(0)
    for heads in ((4, 2), (4, 4)):
        q, k, v = (torch.randn(1, n, 15, 8) for n in (heads[0], heads[1], heads[1]))
        output = varlen.varlen_attention(q, k, v, segments(), 0.7, None)
        torch.testing.assert_close(output, textbook(q, k, v, 0.7, None, None), rtol=1e-5, atol=1e-6)
    assert given == ([True, False] if named else [])
