"""First weights that are cut out of the backbone's, checked by what they compute.

A backbone that uses some of its coordinates, heads and units only (all other weights are zero) is reproduced
by the side network that is cut out of it, once norms, which look at all coordinates, are taken out of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.tiny_ladders import laddered, ladders, tiny_seq2seq
from helpers.tiny_models import tiny_model

from hf_align.adapters.ladder.side import block_list

KEPT = torch.tensor([1, 4, 9, 13, 22, 27, 30, 31])
"""Coordinates that are used, an eighth of 32 each."""
HEAD, UNITS = 2, torch.tensor([0, 3, 7, 11, 20, 21, 22, 30, 31, 40, 44, 47])
IDS = torch.arange(5, 17)[None]


def only(size: int, kept: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(size)
    mask[kept] = 1.0
    return mask


def head_rows(head: int) -> torch.Tensor:
    return torch.arange(8) + 8 * head


def keep(linear: Any, rows: torch.Tensor, columns: torch.Tensor) -> None:
    """Set all weights but those of these outputs and inputs to zero."""
    transposed = not isinstance(linear, torch.nn.Linear)
    out, into = linear.weight.shape[:: -1 if transposed else 1]
    mask = only(out, rows)[:, None] * only(into, columns)[None]
    linear.weight.mul_(mask.T if transposed else mask)
    if linear.bias is not None:
        linear.bias.normal_()
        linear.bias.mul_(only(out, rows))


def thin_llama(block: Any) -> None:
    attention, mlp = block.self_attn, block.mlp
    keep(attention.q_proj, head_rows(HEAD), KEPT)
    # Two heads of queries share one of keys: the third of queries has the second of keys.
    keep(attention.k_proj, head_rows(HEAD // 2), KEPT)
    keep(attention.v_proj, head_rows(HEAD // 2), KEPT)
    keep(attention.o_proj, KEPT, head_rows(HEAD))
    keep(mlp.gate_proj, UNITS, KEPT)
    keep(mlp.up_proj, UNITS, KEPT)
    keep(mlp.down_proj, KEPT, UNITS)


def thin_gpt2(block: Any) -> None:
    rows = torch.cat([head_rows(HEAD) + part * 32 for part in range(3)])
    keep(block.attn.c_attn, rows, KEPT)
    keep(block.attn.c_proj, KEPT, head_rows(HEAD))
    units = torch.arange(0, 128, 4)  # the feed-forward part has 4 x 32 units, the side network's 4 x 8
    keep(block.mlp.c_fc, units, KEPT)
    keep(block.mlp.c_proj, KEPT, units)


def thin_neox(block: Any) -> None:
    # Head by head: queries, keys and values of the third head follow those of the second.
    keep(block.attention.query_key_value, torch.arange(24) + 24 * HEAD, KEPT)
    keep(block.attention.dense, KEPT, head_rows(HEAD))
    keep(block.mlp.dense_h_to_4h, UNITS, KEPT)
    keep(block.mlp.dense_4h_to_h, KEPT, UNITS)


def thin_falcon(block: Any) -> None:
    # Four heads of queries, and one of keys and one of values behind them, which all heads share.
    rows = torch.cat([head_rows(HEAD), torch.arange(32, 48)])
    keep(block.self_attention.query_key_value, rows, KEPT)
    keep(block.self_attention.dense, KEPT, head_rows(HEAD))
    units = torch.arange(0, 128, 4)
    keep(block.mlp.dense_h_to_4h, units, KEPT)
    keep(block.mlp.dense_4h_to_h, KEPT, units)


def thin_t5(block: Any) -> None:
    for layer in block.layer[:-1]:
        attention = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention
        for linear in (attention.q, attention.k, attention.v):
            keep(linear, head_rows(HEAD), KEPT)
        keep(attention.o, KEPT, head_rows(HEAD))
    keep(block.layer[-1].DenseReluDense.wi, UNITS, KEPT)
    keep(block.layer[-1].DenseReluDense.wo, KEPT, UNITS)


def thin_bart(block: Any) -> None:
    for attention in (block.self_attn, getattr(block, "encoder_attn", None)):
        if attention is None:
            continue
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            keep(linear, head_rows(HEAD), KEPT)
        keep(attention.out_proj, KEPT, head_rows(HEAD))
    keep(block.fc1, UNITS, KEPT)
    keep(block.fc2, KEPT, UNITS)


def without_norms(module: torch.nn.Module) -> None:
    for name, child in list(module.named_children()):
        if "norm" in type(child).__name__.lower():
            setattr(module, name, torch.nn.Identity())
        else:
            without_norms(child)


@pytest.mark.parametrize(
    ("family", "thin"),
    [("llama", thin_llama), ("gpt2", thin_gpt2), ("gpt_neox", thin_neox), ("falcon", thin_falcon)],
)
@torch.no_grad()
def test_a_thin_decoder_is_cut_out_exactly(family: str, thin: Callable[[Any], None]) -> None:
    base = tiny_model(family)
    stack: Any = base.base_model
    _thin(stack, thin)
    model = laddered(base, moved=False)
    (ladder,) = ladders(model)
    side = ladder.side
    assert torch.equal(side.first.weight.nonzero()[:, 1], KEPT)
    _compare(base, model, side, stack, lambda: base.base_model(input_ids=IDS, use_cache=False))


@pytest.mark.parametrize(("kind", "thin"), [("t5", thin_t5), ("bart", thin_bart)])
@torch.no_grad()
def test_a_thin_encoder_decoder_is_cut_out_exactly(kind: str, thin: Callable[[Any], None]) -> None:
    base = tiny_seq2seq(kind)
    encoder, decoder = base.get_encoder(), base.get_decoder()
    for stack in (encoder, decoder):
        _thin(stack, thin)
    model = laddered(base, moved=False)
    for stack in (encoder, decoder):
        without_norms(stack)
    encoded = encoder(input_ids=IDS).last_hidden_state
    decoded = decoder(input_ids=IDS + 20, encoder_hidden_states=encoded, use_cache=False).last_hidden_state
    for one in ladders(model):
        without_norms(one.side.stack)
        for rung in one.side.rungs:
            rung.alpha.fill_(-100.0)  # nothing of the backbone but the embeddings
    seen: list[torch.Tensor] = []
    handles = [
        one.side.register_forward_hook(lambda _, __, output: seen.append(output)) for one in ladders(model)
    ]
    model(input_ids=IDS, decoder_input_ids=IDS + 20, use_cache=False)
    assert len(handles) == len(seen) == 2
    for ours, theirs in zip(seen, (encoded, decoded), strict=True):
        torch.testing.assert_close(ours, theirs[..., KEPT], rtol=1e-4, atol=1e-4)
        assert theirs[..., KEPT].abs().max() > 0.01


def _thin(stack: Any, thin: Callable[[Any], None]) -> None:
    """Let the stack use ``KEPT`` coordinates of its embeddings, and what ``thin`` leaves of its blocks."""
    for block in block_list(stack):
        thin(block)
    for name, parameter in stack.named_parameters():
        if "embed" in name or "wte" in name or "wpe" in name:
            parameter.mul_(only(32, KEPT) if parameter.shape[-1] == 32 else 1.0)


def _compare(base: Any, model: Any, side: Any, stack: Any, run: Callable[[], Any]) -> None:
    without_norms(stack)
    without_norms(side.stack)
    for rung in side.rungs:
        rung.alpha.fill_(-100.0)  # nothing of the backbone but the embeddings
    seen: list[torch.Tensor] = []
    side.register_forward_hook(lambda _, __, output: seen.append(output))
    with model.disable_adapter():
        whole = run().last_hidden_state
    run()
    torch.testing.assert_close(seen[0], whole[..., KEPT], rtol=1e-4, atol=1e-4)
    assert whole[..., KEPT].abs().max() > 0.01


def test_the_largest_weights_are_kept_of_every_kind() -> None:
    base = tiny_model("llama")
    block: Any = base.base_model.layers[0]
    with torch.no_grad():
        block.mlp.down_proj.weight[:, UNITS] *= 50.0
        block.self_attn.o_proj.weight[:, head_rows(HEAD)] *= 50.0
    (ladder,) = ladders(laddered(base, moved=False))
    stream = ladder.side.first.weight.nonzero()[:, 1]
    side: Any = ladder.side.rungs[0].block
    assert torch.equal(side.mlp.up_proj.weight, block.mlp.up_proj.weight[UNITS][:, stream])
    assert torch.equal(side.self_attn.q_proj.weight, block.self_attn.q_proj.weight[head_rows(2)][:, stream])
    assert torch.equal(side.self_attn.v_proj.weight, block.self_attn.v_proj.weight[head_rows(1)][:, stream])
    assert torch.equal(ladder.side.stack.norm.weight, base.base_model.norm.weight[stream])


def test_positions_are_cut_as_well_and_tokens_are_not_there() -> None:
    base = tiny_model("gpt2")
    (ladder,) = ladders(laddered(base, moved=False))
    stream = ladder.side.first.weight.nonzero()[:, 1]
    assert torch.equal(ladder.side.stack.wpe.weight, base.base_model.wpe.weight[:, stream])
    assert not any("wte" in name for name in ladder.state_dict())
