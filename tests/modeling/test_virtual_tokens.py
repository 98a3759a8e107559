"""Batches and caches with virtual tokens give what PEFT's own forward pass gives one sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_models import tiny_model

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.data.packing import pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.types import TokenizedRow

METHODS = ("prompt", "p_tuning", "prefix")
PROMPTS = [[7, 8, 9, 10, 11], [12, 13], [5, 6, 7]]


def prompted(method: str) -> Any:
    base = tiny_model("llama")
    install_target_head(base)
    torch.manual_seed(5)
    model = apply_adapter(base, AdapterConfig(adapter=method, num_virtual_tokens=4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def rows(lengths: tuple[int, ...]) -> list[TokenizedRow]:
    rng = np.random.default_rng(0)
    made = []
    for length in lengths:
        mask = np.ones(length, dtype=bool)
        mask[:2] = False
        made.append(TokenizedRow(rng.integers(3, 97, length).astype(np.int32), mask))
    return made


@pytest.mark.parametrize("method", METHODS)
def test_targets_of_a_padded_batch_are_those_of_each_sequence_alone(method: str) -> None:
    model = prompted(method)
    batch = rows((9, 4, 6))
    with torch.no_grad():
        found = model(**model_inputs(pad_rows(batch, 0)))["logps"]
        expected = []
        for row in batch:
            ids = torch.from_numpy(row.input_ids.astype(np.int64))[None]
            # PEFT's own forward, with the mask of a sequence alone; the virtual tokens come first.
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(row) :]
            logps = torch.log_softmax(logits[:-1].float(), dim=-1)
            picked = logps.gather(1, ids[0, 1:, None])[:, 0]
            expected.append(picked[torch.from_numpy(row.target_mask[1:])])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_switched_off_the_batch_is_the_bases(method: str) -> None:
    model = prompted(method)
    inputs = model_inputs(pad_rows(rows((9, 4)), 0))
    base = tiny_model("llama")
    install_target_head(base)
    with torch.no_grad(), model.disable_adapter():
        off = model(**inputs)["logps"]
        torch.testing.assert_close(off, base(**inputs)["logps"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(**inputs)["logps"], off, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_continuations_are_those_of_full_forward_passes(method: str) -> None:
    """Prompts of several lengths in one batch, padded on the left, two samples of each.

    Not compared with PEFT's own ``generate``, which loses the virtual tokens with transformers 5.24.
    """
    model = prompted(method)
    found = sample_continuations(
        model, PROMPTS, Sampling(max_new_tokens=6), stop_ids=[2], pad_token_id=0, samples=2
    )
    for prompt, pair in zip(PROMPTS, (found[:2], found[2:4], found[4:]), strict=True):
        for continuation in pair:
            ids = list(prompt)
            for token, logp in zip(continuation.tokens.tolist(), continuation.logps, strict=True):
                text = torch.tensor([ids])
                with torch.no_grad():
                    logits = model(input_ids=text, attention_mask=torch.ones_like(text)).logits[0, -1]
                assert token == int(logits.argmax())
                assert torch.log_softmax(logits.float(), dim=-1)[token].item() == pytest.approx(
                    logp, rel=1e-3, abs=1e-4
                )
                ids.append(token)
            assert continuation.stopped == (ids[-1] == 2)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_warns_of_positions_or_of_the_caches_name(
    method: str, recwarn: pytest.WarningsRecorder
) -> None:
    model = prompted(method)
    model(**model_inputs(pad_rows(rows((9, 4)), 0)))
    sample_continuations(model, PROMPTS, Sampling(max_new_tokens=3), stop_ids=[2], pad_token_id=0)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("method", METHODS)
def test_the_probe_says_that_it_is_padded(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model = prompted(method)
    assert not enable_segment_attention(model.get_base_model())
    assert "virtual tokens before each row" in caplog.text


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_a_padded_batch_are_those_of_each_answer_alone(method: str) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from hf_align.modeling.heads.reward import install_reward_head

    config = AutoConfig.for_model(
        "llama",
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(config).eval()
    install_reward_head(base)
    adapter = AdapterConfig(adapter=method, num_virtual_tokens=4)
    model = apply_adapter(base, adapter, task_type="SEQ_CLS", head=["score"]).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
    mask = (ids != 0).long()
    last = torch.tensor([4, 5 + 2])
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask, last_tokens=last)["scores"]
        alone = [
            model(
                input_ids=row[None, :n],
                attention_mask=torch.ones(1, n, dtype=torch.long),
                last_tokens=torch.tensor([n - 1]),
            )["scores"][0]
            for row, n in zip(ids, (5, 3), strict=True)
        ]
        # transformers' own pooling, of the logits at every token.
        plain = model(input_ids=ids[:1], attention_mask=mask[:1]).logits[0, 0]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], plain, rtol=1e-4, atol=1e-5)
