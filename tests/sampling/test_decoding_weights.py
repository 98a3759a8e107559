"""Arranged weights give what the layers gave, with the update of an adapter added, and leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.tiny_models import VOCABULARY, tiny_model
from peft import LoraConfig, get_peft_model

from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.decoding_weights import WORTH_STEPS, weights_for_decoding
from hf_align.sampling.options import Sampling


def adapted(family: str = "llama", **options):
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **options)
    model = get_peft_model(tiny_model(family), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    return model


def logits(model, dtype: torch.dtype | None = None) -> torch.Tensor:
    ids = torch.arange(24).view(3, 8) % VOCABULARY
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        return model(input_ids=ids).logits.float()


def products(model) -> int:
    """How many linear layers are called in one forward pass."""
    calls = []
    hooks = [
        module.register_forward_hook(lambda *_: calls.append(1))
        for module in model.modules()
        if type(module) is torch.nn.Linear
    ]
    logits(model)
    for hook in hooks:
        hook.remove()
    return len(calls)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "phi"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_layers_come_out_the_same(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family).to(dtype)
    expected = logits(model)
    with weights_for_decoding(model, rows=3, steps=WORTH_STEPS):
        changed = [module for module in model.modules() if "forward" in vars(module)]
        found = logits(model)
    assert len(changed) == sum(type(module) is torch.nn.Linear for module in model.modules())
    assert torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 2e-2)
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_update_of_an_adapter_is_part_of_the_weight(dtype: torch.dtype | None) -> None:
    model = adapted()
    expected, calls = logits(model, dtype), products(model)
    with weights_for_decoding(model, rows=3, steps=100), torch.no_grad():
        found = logits(model)
        inside = products(model)
    assert torch.allclose(found, expected, atol=1e-5 if dtype is None else 0.1)
    # The head has no adapter; where there is one, neither the base layer nor the two matrices run.
    assert calls > 1 and inside == 1
    assert torch.equal(logits(model, dtype), expected)


def test_the_type_of_the_computation_is_that_of_autocast() -> None:
    model = adapted()
    expected = logits(model, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16), weights_for_decoding(model, rows=3, steps=100):
        found = logits(model, torch.bfloat16)
    assert torch.allclose(found, expected, atol=0.1)
    assert not torch.equal(found, logits(model))


@pytest.mark.parametrize("case", ["dora", "disabled", "merged"])
def test_what_is_not_a_sum_stays_as_it_is(case: str) -> None:
    model = adapted(use_dora=case == "dora")
    if case == "merged":
        model.merge_adapter()

    def compare() -> None:
        expected = logits(model)
        with weights_for_decoding(model, rows=3, steps=100):
            found = logits(model)
        assert torch.allclose(found, expected, atol=1e-5)

    if case == "disabled":
        with model.disable_adapter():
            compare()
    else:
        compare()


def test_few_steps_are_not_worth_it_and_hooks_are_kept() -> None:
    model = tiny_model("llama")
    with weights_for_decoding(model, rows=3, steps=WORTH_STEPS - 1):
        assert not any("forward" in vars(module) for module in model.modules())
    hooked = model.model.layers[0].mlp.up_proj
    hooked.forward = hooked.forward
    with weights_for_decoding(model, rows=3, steps=WORTH_STEPS):
        assert "forward" in vars(model.lm_head)
    assert "forward" in vars(hooked) and "forward" not in vars(model.lm_head)


def test_an_error_leaves_the_layers_as_they_were() -> None:
    model = tiny_model("llama")
    with pytest.raises(KeyError), weights_for_decoding(model, rows=3, steps=100):
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


def test_log_probabilities_of_samples_are_those_of_the_adapted_model() -> None:
    model = adapted("qwen2")
    found = sample_continuations(
        model,
        [[5, 6, 7], [8, 9]],
        Sampling(max_new_tokens=WORTH_STEPS, temperature=1.0),
        stop_ids=[],
        pad_token_id=0,
        samples=2,
        generator=torch.Generator().manual_seed(0),
    )
    for one in found:
        prompt = [[5, 6, 7], [8, 9]][one.prompt]
        ids = torch.tensor([prompt + one.tokens.tolist()])
        with torch.no_grad():
            expected = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)[len(prompt) - 1 : -1]
        expected = expected.gather(1, torch.from_numpy(one.tokens.astype(np.int64))[:, None]).squeeze(1)
        assert one.logps.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
