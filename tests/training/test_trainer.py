"""The contract of an optimizer step: its gradient depends on its rows, not on how they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model

from hf_align.config import TrainingConfig
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training import arguments, tasks, trainer

ROWS = random_rows([12, 5, 21, 8, 3, 17, 9, 4, 14, 6], seed=3)


def build(
    tmp_path: Path, *, padded: bool = False, budget: int = 4096, **options: Any
) -> trainer.AlignTrainer:
    model = tiny_model("llama")
    assert padded or enable_segment_attention(model)
    install_target_head(model)
    settings = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    config = TrainingConfig(
        output_dir=str(tmp_path), use_cpu=True, save_strategy="no", **{**settings, **options}
    )
    steps = trainer.steps_per_epoch(len(ROWS), arguments.rows_per_rank(config))
    return trainer.AlignTrainer(
        model=model,
        args=arguments.training_arguments(config, precision="fp32", use_cpu=True, steps_per_epoch=steps),
        train_dataset=ROWS,
        eval_dataset=ROWS[:7],
        max_tokens_per_batch=budget,
        task=tasks.language_model_task(packed=not padded, pad_token_id=0),
    )


def trained(tmp_path: Path, **options: Any) -> tuple[list[float], torch.Tensor]:
    """Logged losses and final weights; plain SGD, so that weights show the sum of the gradients."""
    run = build(tmp_path, **options)
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return losses, torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize(
    "options",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 4, "budget": 25},
        {"per_device_train_batch_size": 4, "budget": 1},
        {"per_device_train_batch_size": 4, "padded": True},
        {"per_device_train_batch_size": 4, "padded": True, "budget": 30},
        {"per_device_train_batch_size": 4, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_batch_accumulation_and_budget_give_the_same_training(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    # 10 rows in steps of 4: the last step of the epoch is ragged.
    losses, weights = trained(tmp_path / "a", per_device_train_batch_size=4, num_train_epochs=2)
    other_losses, other_weights = trained(tmp_path / "b", num_train_epochs=2, **options)
    assert len(losses) == 6
    torch.testing.assert_close(torch.tensor(other_losses), torch.tensor(losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_weights, weights, rtol=1e-4, atol=1e-5)


def test_a_step_is_the_mean_over_its_target_tokens(tmp_path: Path) -> None:
    model = tiny_model("llama")
    install_target_head(model)
    nll = []
    for row in ROWS:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        logits = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
        nll += [-logits[t - 1, ids[t]] for t in range(1, len(ids)) if row.target_mask[t]]
    by_hand = torch.stack(nll).mean()
    by_hand.backward()
    expected = [p - 0.5 * p.grad for p in model.parameters()]
    losses, weights = trained(tmp_path, per_device_train_batch_size=10, num_train_epochs=1)
    assert losses == [pytest.approx(by_hand.item(), rel=1e-5)]
    torch.testing.assert_close(
        weights, torch.cat([p.detach().flatten() for p in expected]), rtol=1e-4, atol=1e-6
    )


def test_evaluation_is_averaged_over_tokens_whatever_the_batches(tmp_path: Path) -> None:
    results = [build(tmp_path / str(b), budget=b).evaluate() for b in (4096, 20, 1)]
    results.append(build(tmp_path / "p", padded=True).evaluate())
    model = tiny_model("llama")
    total, count = 0.0, 0
    for row in ROWS[:7]:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        logps = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1).detach()
        total -= sum(logps[t - 1, ids[t]].item() for t in range(1, len(ids)) if row.target_mask[t])
        count += sum(bool(m) for m in row.target_mask[1:])
    for metrics in results:
        assert metrics["eval_loss"] == pytest.approx(total / count, rel=1e-5)
        assert metrics["eval_perplexity"] == pytest.approx(2.718281828 ** (total / count), rel=1e-4)
        assert metrics["eval_target_tokens"] == count


def test_evaluation_leaves_training_mode_and_weights_alone(tmp_path: Path) -> None:
    run = build(tmp_path)
    run.model.train()
    before = [p.clone() for p in run.model.parameters()]
    run.evaluate()
    assert run.model.training
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_rows_are_reshuffled_every_epoch_and_all_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build(tmp_path, per_device_train_batch_size=4, num_train_epochs=3)
    seen: list[str] = []
    inner = trainer.compute_gradients

    def watched(model: Any, rows: Any, *others: Any, **options: Any) -> Any:
        seen.extend(row.source for row in rows)
        return inner(model, rows, *others, **options)

    monkeypatch.setattr(trainer, "compute_gradients", watched)
    run.train()
    epochs = [seen[i : i + 10] for i in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(row.source for row in ROWS)] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_loss_that_is_not_a_number_is_logged_as_such(tmp_path: Path) -> None:
    run = build(tmp_path, per_device_train_batch_size=10, num_train_epochs=1)
    with torch.no_grad():
        run.model.get_input_embeddings().weight.fill_(float("nan"))
    run.train()
    logged = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert len(logged) == 1
    assert logged[0] != logged[0]
