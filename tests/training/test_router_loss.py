"""The router loss of a step is transformers' own over its tokens, however the step is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import VOCABULARY, random_rows, redraw
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig, TrainingConfig
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training import arguments, tasks, trainer
from hf_align.training.router_loss import router_loss

ROWS = random_rows([12, 5, 21, 8, 3, 17], seed=3)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "head_dim": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "router_aux_loss_coef": 0.5,
}


def built(family: str, *, asked: bool = True) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, output_router_logits=asked)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    return model


def trained(model: Any, folder: Path, *, padded: bool = False, budget: int = 4096, **options: Any) -> Any:
    """(loss of the first step, gradients as what plain SGD has moved) after a step on all rows."""
    assert padded or enable_segment_attention(model)
    install_target_head(model)
    before = [p.detach().clone() for p in model.parameters()]
    config = TrainingConfig(
        output_dir=str(folder),
        use_cpu=True,
        save_strategy="no",
        optim="sgd",
        learning_rate=1.0,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        num_train_epochs=1,
        **({"per_device_train_batch_size": len(ROWS)} | options),
    )
    run = trainer.AlignTrainer(
        model=model,
        args=arguments.training_arguments(config, precision="fp32", use_cpu=True, steps_per_epoch=1),
        train_dataset=ROWS,
        eval_dataset=ROWS[:2],
        max_tokens_per_batch=budget,
        task=tasks.language_model_task(packed=not padded, pad_token_id=0),
    )
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    moved = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return losses[0], moved


def expected(model: Any) -> Any:
    """The same by transformers alone: one padded batch with labels."""
    width = max(map(len, ROWS))
    ids = torch.zeros(len(ROWS), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for number, row in enumerate(ROWS):
        ids[number, : len(row)] = torch.from_numpy(row.input_ids.astype("int64"))
        mask[number, : len(row)] = 1
        targets = torch.from_numpy(row.target_mask)
        labels[number, : len(row)][targets] = ids[number, : len(row)][targets]
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    return loss.item(), [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padded": True},
        {"budget": 30},
        {"padded": True, "budget": 1},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
        {"budget": 30, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_a_step_is_that_of_transformers_on_all_its_rows(
    family: str, options: dict[str, Any], tmp_path: Path
) -> None:
    wanted, gradients = expected(built(family))
    without, _ = expected(built(family, asked=False))
    assert wanted - without > 0.1, "the router loss is seen"
    loss, moved = trained(built(family), tmp_path, **options)
    assert loss == pytest.approx(wanted, rel=1e-5)
    for one, other in zip(moved, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_none_where_the_configuration_asks_for_none(tmp_path: Path) -> None:
    wanted, _ = expected(built("mixtral", asked=False))
    assert router_loss(built("mixtral", asked=False)) is None
    assert trained(built("mixtral", asked=False), tmp_path)[0] == pytest.approx(wanted, rel=1e-5)


def test_it_is_found_inside_an_adapter() -> None:
    model = apply_adapter(
        built("mixtral"), AdapterConfig(adapter="lora", lora_target_modules=("q_proj", "v_proj"))
    )
    found = router_loss(torch.nn.Sequential(model))
    assert found is not None and len(found.routers) == 2 and found.coefficient == 0.5
