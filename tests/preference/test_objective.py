"""The preference objective: log-probabilities of pairs, references, several losses, metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import tiny_model
from peft import LoraConfig, get_peft_model

from hf_align.data.comparisons.batches import collate_comparisons, without_pairs
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.preference.objective import (
    PreferenceObjective,
    loss_at_start,
    loss_terms,
    pair_logps,
    reference_of,
)
from hf_align.types import ComparisonRow

OPTIONS = {"beta": 0.2, "label_smoothing": 0.0, "ipo_reduction": "mean", "simpo_gamma": 0.3}
ROWS = [random_comparison(5, (4, 6), seed=1), random_comparison(3, (5, 2, 7), seed=2)]


def objective(*names: str, weights: list[float] | None = None, **options) -> PreferenceObjective:
    return PreferenceObjective(loss_terms(names, weights, OPTIONS), beta=OPTIONS["beta"], **options)


def plain_model(seed: int = 0) -> torch.nn.Module:
    model = tiny_model("llama", seed=seed)
    assert enable_segment_attention(model)
    install_target_head(model)
    return model


def sums(model: torch.nn.Module, row: ComparisonRow) -> list[float]:
    """log pi(y_k | x) of each answer by the ordinary forward pass."""
    result = []
    for k in range(len(row.branches)):
        sequence = row.sequence(k)
        ids = torch.tensor(sequence.input_ids, dtype=torch.long)
        with torch.no_grad():
            logps = torch.log_softmax(model(input_ids=ids[None]).logits[0], -1)
        result.append(sum(logps[t - 1, ids[t]].item() for t in np.flatnonzero(sequence.target_mask)))
    return result


def with_reference(model: torch.nn.Module, rows: list[ComparisonRow]) -> list[ComparisonRow]:
    """Rows that carry the log-probabilities of ``model``."""
    known = []
    for row in rows:
        values = []
        for k, branch in enumerate(row.branches):
            sequence = row.sequence(k)
            ids = torch.tensor(sequence.input_ids, dtype=torch.long)
            with torch.no_grad():
                logps = torch.log_softmax(model(input_ids=ids[None]).logits[0], -1)
            targets = np.flatnonzero(sequence.target_mask)
            values.append(np.array([logps[t - 1, ids[t]].item() for t in targets], np.float32))
            assert len(values[-1]) == branch.target_tokens
        known.append(replace(row, reference_logps=tuple(values)))
    return known


def test_dpo_by_hand_with_the_pairs_of_a_ranking_averaged() -> None:
    policy, reference = plain_model(0), plain_model(1)
    rows = with_reference(reference, ROWS)
    result = objective("dpo")(policy, collate_comparisons(rows, packed=True))
    expected = []
    for row in ROWS:
        ratios = [p - r for p, r in zip(sums(policy, row), sums(reference, row), strict=True)]
        margins = [
            0.2 * (ratios[i] - ratios[j]) for i in range(len(ratios)) for j in range(i + 1, len(ratios))
        ]
        expected.append(sum(math.log1p(math.exp(-m)) for m in margins) / len(margins))
    assert result.loss_sum.item() == pytest.approx(sum(expected), rel=1e-4)
    assert result.count == 2


def test_metrics_are_the_rewards_of_the_paper() -> None:
    policy, reference = plain_model(0), plain_model(1)
    row = with_reference(reference, ROWS[:1])[0]
    metrics = objective("dpo")(policy, collate_comparisons([row], packed=True)).metrics
    policy_sums, reference_sums = sums(policy, row), sums(reference, row)
    chosen, rejected = (p - r for p, r in zip(policy_sums, reference_sums, strict=True))
    expected = {
        "logps/chosen": policy_sums[0],
        "logps/rejected": policy_sums[1],
        "logps/chosen_change": chosen / 3,
        "rewards/chosen": 0.2 * chosen,
        "rewards/rejected": 0.2 * rejected,
        "rewards/margins": 0.2 * (chosen - rejected),
        "rewards/accuracies": float(chosen > rejected),
    }
    for name, value in expected.items():
        assert metrics[name].item() == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert metrics["kl"].item() > 0


def adapted() -> torch.nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(
        plain_model(0), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    return model.eval()


def test_the_adapter_switched_off_is_the_reference() -> None:
    model = adapted()
    in_step = objective("dpo")(model, collate_comparisons(ROWS, packed=True))
    beforehand = objective("dpo")(
        model, collate_comparisons(with_reference(plain_model(0), ROWS), packed=True)
    )
    assert in_step.loss_sum.item() == pytest.approx(beforehand.loss_sum.item(), rel=1e-5)
    in_step.loss_sum.backward()
    trained = [name for name, p in model.named_parameters() if p.grad is not None]
    assert trained and all("lora" in name for name in trained), "the adapter must be trained after being off"


@pytest.mark.parametrize("name", ["dpo", "robust", "hinge", "ipo"])
def test_at_the_start_the_loss_is_the_constant_of_theory(name: str) -> None:
    model = plain_model()
    wanted = objective(name)
    batch = collate_comparisons(with_reference(model, ROWS), packed=True)
    constant = loss_at_start(wanted.terms)
    assert constant is not None
    assert wanted(model, batch).loss_sum.item() / 2 == pytest.approx(constant, rel=1e-4)


def test_losses_are_weighted_and_the_sft_term_is_per_token_of_the_better_answer() -> None:
    model = plain_model()
    batch = collate_comparisons(with_reference(plain_model(1), ROWS[:1]), packed=True)
    parts = [objective(name)(model, batch).loss_sum.item() for name in ("dpo", "ipo")]
    both = objective("dpo", "ipo", weights=[2.0, 0.5], sft_weight=3.0)(model, batch)
    nll = -sums(model, ROWS[0])[0] / 3
    assert both.loss_sum.item() == pytest.approx(2 * parts[0] + 0.5 * parts[1] + 3 * nll, rel=1e-4)
    assert both.metrics["pairwise_loss"].item() == pytest.approx(2 * parts[0] + 0.5 * parts[1], rel=1e-4)
    assert both.metrics["sft_loss"].item() == pytest.approx(nll, rel=1e-4)


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_losses_without_a_reference_ask_for_none(name: str) -> None:
    wanted = objective(name)
    assert not wanted.needs_reference and loss_at_start(wanted.terms) is None
    metrics = wanted(plain_model(), collate_comparisons(ROWS, packed=True)).metrics
    assert "kl" not in metrics and "logps/chosen_change" not in metrics


def test_reference_free_takes_the_policys_own_log_probabilities() -> None:
    model = plain_model()
    result = objective("dpo", reference_free=True)(model, collate_comparisons(ROWS[:1], packed=True))
    chosen, rejected = sums(model, ROWS[0])
    assert result.loss_sum.item() == pytest.approx(math.log1p(math.exp(-0.2 * (chosen - rejected))), rel=1e-4)


def test_a_reference_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(TypeError, match="no adapter to switch off"):
        objective("dpo")(plain_model(), collate_comparisons(ROWS, packed=True))


def test_a_filler_adds_nothing_but_reaches_every_weight() -> None:
    model = plain_model()
    result = objective("dpo", sft_weight=1.0)(model, collate_comparisons([without_pairs()], packed=True))
    assert result.loss_sum.item() == 0
    result.loss_sum.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_the_adapter_switched_off_is_a_reference_without_dropout() -> None:
    model = get_peft_model(plain_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    for layer in model.get_base_model().model.layers:
        layer.self_attn.attention_dropout = 0.5
    batch = collate_comparisons(ROWS, packed=True)
    model.eval()
    expected = reference_of(model, batch)
    model.train()
    for _ in range(2):
        assert torch.equal(reference_of(model, batch), expected)
    assert model.training and all(module.training for module in model.modules())


def test_tokens_beyond_the_shorter_answer_count_less() -> None:
    rows = [random_comparison(3, (5, 3), seed=1), random_comparison(4, (2, 6), seed=2)]
    batch = collate_comparisons(rows, packed=True)
    logps = torch.arange(1.0, 13.0)  # answers of 4 and 2 tokens, then of 1 and 5
    found = pair_logps(logps, batch, ld_alpha=0.5)
    assert found.chosen.tolist() == [1 + 2 + 0.5 * (3 + 4), 7.0]
    assert found.rejected.tolist() == [5.0 + 6.0, 8 + 0.5 * (9 + 10 + 11 + 12)]
    whole, plain = pair_logps(logps, batch, ld_alpha=1.0), pair_logps(logps, batch)
    assert all(torch.equal(one, other) for one, other in zip(whole, plain, strict=True))
    assert found.chosen_length.tolist() == [4, 1] and found.rejected_length.tolist() == [2, 5]


def test_weights_are_those_of_what_the_model_writes() -> None:
    model = plain_model()
    batch = collate_comparisons(with_reference(plain_model(seed=1), ROWS), packed=True)
    plain, weighted = objective("dpo"), objective("dpo", use_weighting=True)
    whole = []
    for row in ROWS:
        weights = []
        for k in range(len(row.branches)):
            sequence = row.sequence(k)
            ids = torch.tensor(sequence.input_ids, dtype=torch.long)
            with torch.no_grad():
                logps = torch.log_softmax(model(input_ids=ids[None]).logits[0], -1)
            terms = [
                logps[t - 1, ids[t]] - torch.logsumexp(2 * logps[t - 1], 0)
                for t in np.flatnonzero(sequence.target_mask)
            ]
            weights.append(math.exp(sum(terms) / len(terms)))
        whole += [weights[i] * weights[j] for i, j in row.pairs()]
    expected = torch.tensor(whole)
    losses = []
    for one in (plain, weighted):
        output = one(model, batch)
        (gradient,) = torch.autograd.grad(output.loss_sum, model.lm_head.weight)
        losses.append((output.metrics["pairwise_loss"], gradient))
    policy = pair_logps(model(**model_inputs(batch.inputs))["logps"], batch)
    reference = pair_logps(batch.reference_logps, batch)
    by_hand = (batch.pair_weights * expected * plain.terms[0](policy, reference)).sum()
    torch.testing.assert_close(losses[1][0], by_hand.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.equal(losses[0][1], losses[1][1])
    (through,) = torch.autograd.grad(by_hand, model.lm_head.weight)
    torch.testing.assert_close(losses[1][1], through, rtol=1e-3, atol=1e-6)
