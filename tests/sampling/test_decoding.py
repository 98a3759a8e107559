"""Sequences that read a shared prompt where it lies attend as each of them would alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.tiny_models import PACKABLE, VOCABULARY, redraw, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.growing_cache import cache_keyword
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.decoding import DECODING_ATTENTION, SharedPrompts, decoding, decoding_attention
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_tokens

GROUPS, HEADS, SIZE = 2, 6, 4


class Layer(torch.nn.Module):
    layer_idx = 0


def attended(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One query (H, D) over keys and values (G, T, D), a head at a time: (H, D)."""
    found = []
    for head in range(HEADS):
        group = head // (HEADS // GROUPS)
        weights = torch.softmax(keys[group] @ query[head] / math.sqrt(SIZE), dim=0)
        found.append(weights @ values[group])
    return torch.stack(found)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    samples=st.integers(1, 4),
    written=st.integers(1, 3),
    kept=st.lists(st.booleans(), min_size=12, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_sequence_meets_its_prompt_and_what_it_has_written(
    lengths: list[int], samples: int, written: int, kept: list[bool], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    width, rows = max(lengths), len(lengths) * samples

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    of_prompts = [random(len(lengths), GROUPS, width, SIZE) for _ in range(2)]
    own = [random(rows, GROUPS, written, SIZE) for _ in range(2)]
    query = random(rows, HEADS, 1, SIZE)
    hidden = torch.arange(width)[None] < width - torch.tensor(lengths)[:, None]
    owner = torch.arange(len(lengths)).repeat_interleave(samples)
    prompts = SharedPrompts([of_prompts[0]], [of_prompts[1]], hidden, owner)
    left = torch.tensor([i for i in range(rows) if kept[i]] or [rows - 1])
    prompts.keep(left)
    output, _ = decoding_attention(
        Layer(), query[left], own[0][left], own[1][left], None, shared_prompts=prompts
    )
    assert output.shape == (len(left), 1, HEADS, SIZE) and prompts.layers_used == {0}
    assert len(prompts.keys[0]) == len(set(owner[left].tolist())), "prompts without a sequence are dropped"
    for place, row in enumerate(left.tolist()):
        prompt = owner[row]
        seen = width - lengths[prompt]
        keys, values = (
            torch.cat([part[prompt][:, seen:], mine[row]], dim=1)
            for part, mine in zip(of_prompts, own, strict=True)
        )
        assert torch.allclose(output[place, 0], attended(query[row, :, 0], keys, values), atol=1e-5)


def test_a_mask_hides_keys_without_shared_prompts() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, HEADS, 1, SIZE), *torch.randn(2, 2, GROUPS, 5, SIZE)
    mask = torch.tensor([[True] * 5, [False, False, True, True, True]])[:, None, None]
    output, _ = decoding_attention(Layer(), query, key, value, mask)
    assert torch.allclose(output[0, 0], attended(query[0, :, 0], key[0], value[0]), atol=1e-6)
    assert torch.allclose(output[1, 0], attended(query[1, :, 0], key[1, :, 2:], value[1, :, 2:]), atol=1e-6)


def test_the_attention_of_a_model_comes_back() -> None:
    model = tiny_model("llama")
    before = model.config._attn_implementation
    with pytest.raises(KeyError), decoding(model) as able:
        assert able.shares and not able.packs
        assert model.config._attn_implementation == DECODING_ATTENTION
        raise KeyError
    assert model.config._attn_implementation == before
    assert enable_segment_attention(model)
    with decoding(model) as able:
        assert able.shares and able.packs
    model.set_attn_implementation("eager")
    with decoding(model) as able:
        assert not able.shares and model.config._attn_implementation == "eager"


OTHER_STATES: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
    },
    "lfm2": {**PACKABLE["llama"][1], "layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
    "falcon_h1": {
        **PACKABLE["llama"][1],
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
    },
    "deepseek_v3": {
        **PACKABLE["phi"][1],
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "first_k_dense_replace": 2,
    },
}
"""Families whose caches hold more than keys and values, or hold them compressed."""


@pytest.mark.parametrize("family", list(OTHER_STATES))
def test_any_state_of_a_sequence_is_repeated_and_taken_out_with_it(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{"vocab_size": VOCABULARY, **OTHER_STATES[family]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    prompts = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23]]
    whole = []
    with torch.no_grad():
        for prompt in prompts:
            ids = list(prompt)
            for _ in range(6):
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            whole.append(ids[len(prompt) :])
    streamed = stream_tokens(model, prompts[0], Sampling(max_new_tokens=6), stop_ids=[])
    assert list(streamed) == whole[0]
    stop = whole[1][1]
    for samples in (1, 2):
        found = sample_continuations(
            model, prompts, Sampling(max_new_tokens=6), stop_ids=[stop], pad_token_id=0, samples=samples
        )
        assert [one.prompt for one in found] == [n for n in range(3) for _ in range(samples)]
        for one in found:
            expected = whole[one.prompt]
            end = expected.index(stop) + 1 if stop in expected else 6
            assert one.tokens.tolist() == expected[:end]


def test_a_model_that_keeps_nothing_is_refused() -> None:
    model = tiny_model("llama")
    forward = model.forward
    model.forward = lambda **inputs: forward(**{**inputs, cache_keyword(model): None})
    with pytest.raises(UserError, match="LlamaForCausalLM keeps nothing in the cache"):
        sample_continuations(model, [[5, 6]], Sampling(max_new_tokens=2), stop_ids=[], pad_token_id=0)


@pytest.mark.parametrize("family", ["bloom", "falcon", "mpt", "gpt_neo", "gemma3", "llama"])
def test_samples_are_the_same_where_prompts_cannot_be_shared(family: str) -> None:
    """Families that do not call a registered function, or look through a window, repeat the prompt's keys."""
    model = tiny_model(family)
    prompts = [[5, 6, 7, 8], [9, 10]]
    draws = torch.rand(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(max_new_tokens=6, temperature=1.0)
    together = sample_continuations(
        model, prompts, sampling, stop_ids=[], pad_token_id=0, samples=3, draws=draws
    )
    for number, prompt in enumerate(prompts):
        for sample in range(3):
            alone = sample_continuations(
                model,
                [prompt],
                sampling,
                stop_ids=[],
                pad_token_id=0,
                draws=draws[number, sample][None, None],
            )
            assert together[3 * number + sample].tokens.tolist() == alone[0].tokens.tolist()


def test_a_model_in_float32_shares_prompts_under_autocast() -> None:
    """Its rotated keys stay in float32 there, and its values do not."""
    model = tiny_model("llama")
    prompt, sampling = [5, 6, 7, 8], Sampling(max_new_tokens=4, temperature=1.0)
    draws = torch.rand(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = sample_continuations(
            model, [prompt], sampling, stop_ids=[], pad_token_id=0, samples=3, draws=draws
        )
    for one in found:
        ids = torch.tensor([[*prompt, *one.tokens.tolist()]])
        with torch.no_grad():
            logps = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        expected = logps.gather(1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(torch.as_tensor(one.logps).float(), expected, atol=0.1, rtol=0)
