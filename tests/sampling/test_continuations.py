"""Continuations equal those of transformers' own generate; log-probabilities those of a forward pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.tiny_models import PACKABLE, VOCABULARY, tiny_model
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.few_shapes import few_length
from hf_align.sampling.batch import LEAVE_SHARE
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_tokens
from hf_align.sampling.token_choice import choose_tokens
from hf_align.sampling.ways import way_for

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21, 22, 23], [24]]
GREEDY = Sampling(max_new_tokens=14)


def generated(model, prompt: list[int], stop_ids: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=14,
        do_sample=False,
        eos_token_id=stop_ids or None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


def logps_of(model, prompt: list[int], tokens: list[int], temperature: float = 1.0) -> list[float]:
    ids = torch.tensor([prompt + tokens])
    logps = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, dim=-1)
    return [logps[len(prompt) - 1 + i, token].item() for i, token in enumerate(tokens)]


def stops(model) -> list[int]:
    """Tokens at which some of the greedy continuations end, and others do not."""
    everything = [generated(model, prompt, []) for prompt in PROMPTS]
    return [everything[0][2], everything[2][5]]


@pytest.mark.parametrize("family", sorted(PACKABLE))
@pytest.mark.parametrize("max_rows", [64, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_greedy_continuations_are_those_of_generate(family: str, max_rows: int, packed: bool) -> None:
    model = tiny_model(family)
    reference = tiny_model(family)
    if packed:
        assert enable_segment_attention(model)
    if family in ("gemma2", "mistral", "gemma3"):
        reference.set_attn_implementation("eager")
        if not packed:
            model.set_attn_implementation("eager")
    stop_ids = stops(reference)
    found = sample_continuations(model, PROMPTS, GREEDY, stop_ids=stop_ids, pad_token_id=0, max_rows=max_rows)
    assert [continuation.prompt for continuation in found] == list(range(len(PROMPTS)))
    for prompt, continuation in zip(PROMPTS, found, strict=True):
        tokens = continuation.tokens.tolist()
        assert tokens == generated(reference, prompt, stop_ids)
        assert continuation.stopped == (tokens[-1] in stop_ids)
        assert continuation.logps.tolist() == pytest.approx(logps_of(model, prompt, tokens), abs=1e-4)


def test_samples_of_a_prompt_share_its_prefill_and_are_scored_at_the_temperature() -> None:
    model = tiny_model("llama")
    way_for(model, 0)  # its passes are not counted
    lengths: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    sampling = Sampling(max_new_tokens=6, temperature=0.7, top_p=0.9)
    found = sample_continuations(
        model,
        PROMPTS,
        sampling,
        stop_ids=[],
        pad_token_id=0,
        samples=4,
        generator=torch.Generator().manual_seed(1),
    )
    assert lengths[0] == (5, 9) and set(lengths[1:]) == {(20, 1)}
    assert [c.prompt for c in found] == [i for i in range(5) for _ in range(4)]
    assert len({tuple(c.tokens.tolist()) for c in found}) > 10
    for continuation in found:
        expected = logps_of(model, PROMPTS[continuation.prompt], continuation.tokens.tolist(), 0.7)
        assert continuation.logps.tolist() == pytest.approx(expected, abs=1e-4)


def test_the_same_seed_gives_the_same_samples() -> None:
    model = tiny_model("qwen2")
    sampling = Sampling(max_new_tokens=8, temperature=1.0)

    def draw(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        found = sample_continuations(
            model, PROMPTS, sampling, stop_ids=[3, 4, 5, 6], pad_token_id=0, samples=3, generator=generator
        )
        return [c.tokens.tolist() for c in found]

    assert draw(0) == draw(0) != draw(1)


def test_sequences_that_ended_leave_the_batch() -> None:
    model = tiny_model("llama")
    way_for(model, 0)
    rows: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    sampling = Sampling(max_new_tokens=30, temperature=1.0)
    found = sample_continuations(
        model,
        PROMPTS,
        sampling,
        stop_ids=list(range(3, 12)),
        pad_token_id=0,
        samples=8,
        generator=torch.Generator().manual_seed(0),
    )
    lengths = sorted(len(c.tokens) for c in found)
    assert rows[1] == 40 and rows == [rows[0], *sorted(rows[1:], reverse=True)] and rows[-1] < 40
    # From few counts, so that what is compiled for one serves again.
    assert all(few_length(count, LEAVE_SHARE, 1) == count for count in rows[2:] if count < 40)
    assert len(rows) == lengths[-1], "no step after the last sequence has ended"
    for c in found:
        expected = logps_of(model, PROMPTS[c.prompt], c.tokens.tolist())
        assert c.logps.tolist() == pytest.approx(expected, abs=1e-4)
        ends = np.flatnonzero(np.isin(c.tokens, range(3, 12)))
        assert (list(ends) == [len(c.tokens) - 1]) if c.stopped else not len(ends)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.6), (9, 0.5), (0, 1e-6)])
def test_the_tokens_that_can_be_drawn_are_those_of_transformers(top_k: int, top_p: float) -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, VOCABULARY) * 2
    expected = TemperatureLogitsWarper(0.8)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    sampling = Sampling(temperature=0.8, top_k=top_k, top_p=top_p)
    many = logits.repeat_interleave(4000, dim=0)
    draws = torch.rand(len(many), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen, _ = choose_tokens(many, sampling, draws)
    counts = torch.nn.functional.one_hot(chosen, VOCABULARY).view(4, 4000, -1).float().mean(1)
    probabilities = expected.softmax(-1)
    assert not counts[probabilities == 0].any()
    assert (counts - probabilities).abs().max() < 0.035


def test_bad_input_is_refused() -> None:
    model = tiny_model("llama")
    for prompts in ([], [[5], []]):
        with pytest.raises(ValueError, match="at least one"):
            sample_continuations(model, prompts, GREEDY, stop_ids=[], pad_token_id=0)
    with pytest.raises(ValueError, match="one sample"):
        sample_continuations(model, PROMPTS, GREEDY, stop_ids=[], pad_token_id=0, samples=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(temperature: float, broken: float) -> None:
    """A model in float16 may overflow; by NaN the first token of the vocabulary would be the likeliest."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight[7] = broken
    sampling = Sampling(max_new_tokens=3, temperature=temperature)
    with pytest.raises(UserError, match="logits that are not finite"):
        sample_continuations(model, [[5, 6]], sampling, stop_ids=[], pad_token_id=0, samples=2)
    with pytest.raises(UserError, match="logits that are not finite"):
        list(stream_tokens(model, [5, 6], sampling, stop_ids=[]))
