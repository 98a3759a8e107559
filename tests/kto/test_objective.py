"""KTO's estimate and loss: of the whole step, however it is cut and packed; the adapter as its reference."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers.comparisons import random_comparison
from helpers.tiny_models import tiny_model

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.kto.objective import KtoObjective, inform, kto_task, step_metrics
from hf_align.kto.rows import KtoRow, KtoRows, Mismatched, StepOrder, collate_unpaired, filler
from hf_align.losses import UNPAIRED_LOSSES
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training.step import compute_gradients

SHAPES = [(6, 5), (1, 12), (11, 4), (3, 15), (8, 6), (20, 10), (4, 3)]
SEED = 6  # one that makes mismatched answers likelier on the whole
KTO = KtoObjective(UNPAIRED_LOSSES["kto"], beta=0.5, undesirable_weight=1.5)


def step() -> list[KtoRow]:
    rows = [random_comparison(p, (a,), seed=i, scores=[i % 2]) for i, (p, a) in enumerate(SHAPES)]
    order = StepOrder(len(rows), len(rows), 0)
    return list(KtoRows(rows, order, Mismatched(rows, order, 1, 100)))


def adapted(*, trained: bool = True, packed: bool = True) -> Any:
    """A model with LoRA; ``trained``: its weights are no longer those that add nothing."""
    base = tiny_model("llama")
    if packed:
        assert enable_segment_attention(base)
    install_target_head(base)
    model: Any = apply_adapter(base, AdapterConfig(adapter="lora", lora_r=4))
    torch.manual_seed(SEED)
    for name, value in model.named_parameters():
        if trained and "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return model


def run(
    model: Any, rows: list[KtoRow], *, budget: int, packed: bool = True
) -> tuple[Any, list[torch.Tensor]]:
    task = kto_task(KTO, packed=packed, pad_token_id=0)
    model.zero_grad()
    result = compute_gradients(model, rows, task, Accelerator(cpu=True), max_tokens=budget)
    return result, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def log_ratio(model: Any, row: Any) -> float:
    """Of one sequence by itself, by plain log-softmax."""
    whole = row.sequence(0)
    ids = torch.from_numpy(whole.input_ids).long()[None]
    sums = []
    with torch.no_grad():
        for context in (None, model.disable_adapter()):
            if context is not None:
                context.__enter__()
            logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            sums.append(
                logps.gather(1, ids[0, 1:, None])[:, 0][torch.from_numpy(whole.target_mask[1:])].sum()
            )
            if context is not None:
                context.__exit__(None, None, None)
    return float(sums[0] - sums[1])


def test_the_estimate_and_the_loss_are_those_of_the_whole_step() -> None:
    model, rows = adapted().eval(), step()
    z = max(0.0, sum(log_ratio(model, row.mismatched) for row in rows) / len(rows))
    assert z > 0.01
    expected = 0.0
    for row in rows:
        ahead = 0.5 * (log_ratio(model, row.answer) - z)
        liked = bool(row.answer.scores[0])
        expected += (1.0 if liked else 1.5) * float(torch.sigmoid(torch.tensor(-ahead if liked else ahead)))
    result, _ = run(model, rows, budget=1000)
    assert result.loss == pytest.approx(expected / len(rows), rel=1e-4)
    assert step_metrics(result.sums, result.units)["kl"] == pytest.approx(z, rel=1e-4)


@pytest.mark.parametrize(("budget", "packed"), [(1, True), (40, True), (60, False)])
def test_cutting_and_packing_change_nothing(budget: int, packed: bool) -> None:
    whole, gradients = run(adapted(), step(), budget=1000)
    cut, others = run(adapted(packed=packed), step(), budget=budget, packed=packed)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    assert cut.means == pytest.approx(whole.means, rel=1e-4)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_fillers_add_nothing() -> None:
    model, rows = adapted(), step()
    sums = [KTO.survey(model, collate_unpaired(some, packed=True)) for some in (rows, [*rows, filler()])]
    torch.testing.assert_close(*sums)
    plain, filled = (
        KTO(model, inform(collate_unpaired(some, packed=True), sums[0])) for some in (rows, [*rows, filler()])
    )
    torch.testing.assert_close(plain.loss_sum, filled.loss_sum)
    assert plain.count == filled.count == len(rows)


def test_the_survey_leaves_no_gradient_and_the_mode_as_it_was() -> None:
    model = adapted().train()
    result, gradients = run(model, step(), budget=40)
    assert model.training
    frozen = copy.deepcopy(model)
    batch = inform(collate_unpaired(step(), packed=True), torch.full((7, 1), result.means["kl"]))
    frozen.zero_grad()
    (KTO(frozen, batch).loss_sum / 7).backward()
    for one, other in zip(
        gradients, (p.grad for p in frozen.parameters() if p.grad is not None), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_an_estimate_below_zero_counts_as_zero() -> None:
    batch = collate_unpaired(step(), packed=True)
    assert inform(batch, torch.tensor([[-3.0], [1.0]])).kl == 0
    assert inform(batch, torch.zeros(0, 1)).kl == 0


def test_a_batch_without_its_estimate_is_refused() -> None:
    with pytest.raises(ValueError, match="KL estimate"):
        KTO(adapted(), collate_unpaired(step(), packed=True))
