"""Log-probabilities at a temperature, entropies and values, read in one forward pass."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers.ppo_parts import models
from helpers.tiny_models import random_rows, tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.data.packing import pack_rows, pad_rows
from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.reward import install_reward_head
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.rl.value_head import VALUE_FILE, PolicyWithValue, ValueHead, load_value, save_value

TEMPERATURE = 0.7


def expected(policy: torch.nn.Module, head: ValueHead, rows: list) -> tuple[torch.Tensor, ...]:
    """Log-probabilities, entropies and values of the targets, row by row by the model's own forward."""
    parts: list[tuple[torch.Tensor, ...]] = []
    for row in rows:
        ids = torch.from_numpy(row.input_ids).long()[None]
        output = policy(input_ids=ids, output_hidden_states=True)
        before = torch.from_numpy(row.target_mask[1:])
        logps = torch.log_softmax(output.logits[0, :-1].double() / TEMPERATURE, dim=-1)[before]
        labels = ids[0, 1:][before]
        distribution = torch.distributions.Categorical(logits=logps)
        states = output.hidden_states[-1][0, :-1][before]
        values = states.float() @ head.linear.weight[0] + head.linear.bias
        parts.append((logps.gather(1, labels[:, None])[:, 0], distribution.entropy(), values))
    return tuple(torch.cat(some) for some in zip(*parts, strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere"])
@pytest.mark.parametrize("packed", [True, False])
def test_one_pass_gives_what_the_model_gives_row_by_row(family: str, packed: bool) -> None:
    rows = random_rows([9, 4, 13], seed=1)
    whole = tiny_model(family)
    policy = copy.deepcopy(whole)
    if packed:
        assert enable_segment_attention(policy)
    # Three chunks, to meet the border of one.
    install_target_head(policy, max_logits=97 * 7)
    torch.manual_seed(0)
    head = ValueHead(32, "normal")
    module = PolicyWithValue(policy, head)
    batch = pack_rows(rows) if packed else pad_rows(rows, 0)
    output = module(**model_inputs(batch), temperature=TEMPERATURE, with_entropies=True)
    found = (output.logps, output.entropies, output.state_values)
    with torch.no_grad():
        for ours, theirs in zip(found, expected(whole, head, rows), strict=True):
            torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-4)
    weights = torch.randn(3, len(output.logps))
    (weights * torch.stack(found)).sum().backward()
    gradients = {name: p.grad for name, p in module.policy.named_parameters()}
    (weights * torch.stack([t.float() for t in expected(whole, head, rows)])).sum().backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_nothing_is_asked_for_by_default() -> None:
    found = models()
    batch = pack_rows(random_rows([5, 8]))
    plain = found.policy(**model_inputs(batch))
    assert set(plain.keys()) == {"logps", "correct"}
    output = found.module(**model_inputs(batch))
    assert set(output.keys()) == {"logps", "correct", "state_values"}
    assert torch.equal(output.logps, plain.logps)


def test_a_new_head_is_zero_or_drawn_with_the_width() -> None:
    assert not any(p.any() for p in ValueHead(64).parameters())
    torch.manual_seed(0)
    weights = ValueHead(4095, "normal").linear.weight
    assert weights.std().item() == pytest.approx(1 / 64, rel=0.05)


def test_values_are_float32_under_autocast() -> None:
    head = ValueHead(32, "normal")
    states = torch.randn(7, 32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        values = head(states)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, states.float() @ head.linear.weight[0])


def second_model() -> torch.nn.Module:
    config = AutoConfig.for_model(
        "llama", vocab_size=97, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, pad_token_id=0, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert enable_segment_attention(model)
    install_reward_head(model)
    return model


def test_a_model_of_its_own_is_read_before_every_target() -> None:
    critic = second_model()
    module = PolicyWithValue(models().policy, critic)
    rows = random_rows([6, 11], seed=2)
    output = module(**model_inputs(pack_rows(rows)))
    expected_values = []
    with torch.no_grad():
        for row in rows:
            states = critic.model(torch.from_numpy(row.input_ids).long()[None]).last_hidden_state[0, :-1]
            expected_values.append(critic.score(states)[:, 0][torch.from_numpy(row.target_mask[1:])])
    torch.testing.assert_close(output.state_values, torch.cat(expected_values), rtol=1e-4, atol=1e-5)
    output.state_values.sum().backward()
    assert critic.model.embed_tokens.weight.grad.any()
    assert all(p.grad is None for p in module.policy.parameters()), "its own trunk, and only that"


@pytest.mark.parametrize("own_trunk", [False, True])
def test_saved_and_loaded(tmp_path: Path, own_trunk: bool) -> None:
    module = PolicyWithValue(models().policy, second_model() if own_trunk else ValueHead(32, "normal"))
    before = {name: p.clone() for name, p in module.value.named_parameters()}
    save_value(module, tmp_path)
    with torch.no_grad():
        for parameter in module.value.parameters():
            parameter.add_(1.0)
    load_value(module, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in module.value.named_parameters())


def test_another_head_is_refused(tmp_path: Path) -> None:
    module = models().module
    with pytest.raises(UserError, match="cannot be read"):
        load_value(module, tmp_path)
    save_value(PolicyWithValue(module.policy, ValueHead(16)), tmp_path)
    with pytest.raises(UserError, match="another model"):
        load_value(module, tmp_path)
    (tmp_path / VALUE_FILE).write_bytes((tmp_path / VALUE_FILE).read_bytes()[:-3])
    with pytest.raises(UserError, match="cannot be read"):
        load_value(module, tmp_path)
