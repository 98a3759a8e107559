"""Ladders on encoder-decoder models, with a side network on either stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_classifiers import CITIES, save_model
from helpers.tiny_ladders import laddered, ladders, tiny_seq2seq

from hf_align.commands import sft
from hf_align.errors import UserError

KINDS = ["t5", "bart"]
IDS = torch.arange(5, 17).view(2, 6)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
LABELS = torch.arange(20, 30).view(2, 5)


@pytest.mark.parametrize("init", ["pruned", "random"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_base_and_every_weight_of_both_ladders_is_trained(kind: str, init: str) -> None:
    base = tiny_seq2seq(kind)
    with torch.no_grad():  # PyTorch takes another kernel where position biases need gradients
        before = base(input_ids=IDS, attention_mask=MASK, labels=LABELS).logits
    model = laddered(base, moved=False, init=init)
    output = model(input_ids=IDS, attention_mask=MASK, labels=LABELS)
    torch.testing.assert_close(output.logits, before, rtol=0, atol=0)
    model = laddered(tiny_seq2seq(kind), init=init).train()
    assert len(ladders(model)) == 2
    model(input_ids=IDS, attention_mask=MASK, labels=LABELS).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    assert all(".added.default." in name for name in trained)
    with model.disable_adapter():
        off = model.eval()(input_ids=IDS, attention_mask=MASK, labels=LABELS)
    torch.testing.assert_close(off.logits, before)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_the_source_is_not_seen(kind: str) -> None:
    model = laddered(tiny_seq2seq(kind)).eval()
    padded = model(input_ids=IDS, attention_mask=MASK, labels=LABELS).logits[1]
    alone = model(input_ids=IDS[1:, :3], labels=LABELS[1:]).logits[0]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_with_a_cache_is_that_without(kind: str, beams: int) -> None:
    model = laddered(tiny_seq2seq(kind)).eval()
    options: dict[str, Any] = {
        "attention_mask": MASK,
        "max_new_tokens": 7,
        "num_beams": beams,
        "do_sample": False,
        "eos_token_id": None,
    }
    with_cache = model.generate(input_ids=IDS, **options)
    without = model.generate(input_ids=IDS, use_cache=False, **options)
    assert torch.equal(with_cache, without)
    with model.disable_adapter():
        assert not torch.equal(model.generate(input_ids=IDS, **options), with_cache)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = laddered(tiny_seq2seq(kind)).eval()
    before = model(input_ids=IDS, attention_mask=MASK, labels=LABELS).logits
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tiny_seq2seq(kind), tmp_path).eval()
    after = loaded(input_ids=IDS, attention_mask=MASK, labels=LABELS).logits
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("adapter", ["ladder", "bottleneck"])
@pytest.mark.parametrize("kind", KINDS)
def test_trained_by_the_command(kind: str, adapter: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"city: {i} lamps to {CITIES[i % 3]}", "completion": CITIES[i % 3]} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    recipe = {
        "model_name_or_path": save_model(kind, tmp_path / "base"),
        "datasets": str(tmp_path / "rows.jsonl"),
        "eval_datasets": str(tmp_path / "rows.jsonl"),
        "output_dir": str(tmp_path / "run"),
        "use_cpu": True,
        "precision": "fp32",
        "adapter": adapter,
        **({"ladder_reduction_factor": 4} if adapter == "ladder" else {"bottleneck_width": 4}),
        "learning_rate": 0.03,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "num_samples": 2,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    metrics = sft.main(["--config", str(path)])["final_metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"] - 0.02
    saved = (tmp_path / "run" / "adapter_model.safetensors").stat().st_size
    assert saved < (tmp_path / "base" / "model.safetensors").stat().st_size
    if adapter != "ladder":
        return
    with pytest.raises(UserError, match="ladder_cache: states are kept for decoders"):
        sft.main(["--config", str(path), "--ladder_cache", "--output_dir", str(tmp_path / "other")])
