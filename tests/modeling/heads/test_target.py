from __future__ import annotations

import copy

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model

from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads import target as target_head
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs

BATCH = pack_rows(random_rows([14, 9, 20]))


def prepared(family: str, **options):
    model = tiny_model(family)
    assert enable_segment_attention(model)
    install_target_head(model, **options)
    return model


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_chunks_change_neither_values_nor_gradients(family: str) -> None:
    results = []
    for max_logits in (2**27, 97 * 4, 1):
        model = prepared(family, max_logits=max_logits)
        output = model(**model_inputs(BATCH))
        (output.logps * torch.linspace(1, 2, len(output.logps))).sum().backward()
        gradient = model.get_output_embeddings().weight.grad
        results.append((output.logps.detach(), output.correct, gradient))
    # An entry is a sum of products that are much larger than it may be itself.
    rounding = 1e-6 * float(results[0][2].abs().max())
    for logps, correct, gradient in results[1:]:
        torch.testing.assert_close(logps, results[0][0], rtol=1e-6, atol=1e-6)
        assert torch.equal(correct, results[0][1])
        torch.testing.assert_close(gradient, results[0][2], rtol=1e-5, atol=rounding)


def test_the_head_sees_target_positions_only() -> None:
    model = prepared("llama")
    seen = []
    model.get_output_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    model(**model_inputs(BATCH))
    assert seen == [BATCH.target_tokens]


def test_in_half_precision_the_head_sees_few_numbers_of_rows() -> None:
    model = prepared("llama", max_logits=97 * 60)
    seen = set()
    model.get_output_embeddings().register_forward_hook(lambda _, args, __: seen.add(args[0].shape[1]))
    for length in range(20, 100):
        batch = pack_rows(random_rows([length], target_share=1.0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**model_inputs(batch))
        assert len(output.logps) == len(output.correct) == batch.target_tokens
    assert seen == {16, 32, 48, 60}


def test_rows_that_are_added_for_the_head_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for few in (False, True):
        monkeypatch.setattr(target_head, "compiles", lambda states, few=few: few)
        model = prepared("llama")
        output = model(**model_inputs(BATCH), with_entropies=True)
        (output.logps * torch.linspace(1, 2, len(output.logps)) + output.entropies).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append((output.logps, output.correct.float(), output.entropies, *gradients))
    for plain, added in zip(*results, strict=True):
        torch.testing.assert_close(added, plain, rtol=1e-4, atol=1e-5)


def test_half_precision_states_give_float32_log_probabilities() -> None:
    model = prepared("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**model_inputs(BATCH))
    assert output.logps.dtype == torch.float32
    assert bool((output.logps < 0).all())


def test_correct_marks_the_most_probable_targets() -> None:
    model = prepared("llama")
    output = model(**model_inputs(BATCH))
    # A target with a probability above one half is the most probable token; one below 1/V never is.
    assert bool(output.correct[output.logps.exp() > 0.5].all())
    assert not bool(output.correct[output.logps.exp() < 1 / 97].any())


def test_without_labels_the_forward_is_the_models_own() -> None:
    plain, model = tiny_model("llama"), prepared("llama")
    ids = torch.arange(5, 15)[None]
    torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert model(input_ids=ids, labels=ids).loss is not None


def test_a_deep_copy_runs_on_its_own_weights() -> None:
    model = prepared("llama")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.get_input_embeddings().weight.zero_()
    ours, theirs = (m(**model_inputs(BATCH)).logps for m in (model, twin))
    assert not torch.allclose(ours, theirs)


def test_a_batch_without_targets_gives_zero_and_reaches_every_weight() -> None:
    model = prepared("llama")
    inputs = model_inputs(BATCH)
    inputs["shift_labels"] = torch.full_like(inputs["shift_labels"], -100)
    loss = model(**inputs).logps.sum()
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
