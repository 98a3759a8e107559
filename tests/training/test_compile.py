"""torch.compile changes the speed, not the training."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders

from hf_align.commands import sft


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_equals_eager(tmp_path: Path) -> None:
    common = [
        "--model_name_or_path", save_tiny_checkpoint(tmp_path / "model"),
        "--datasets", write_orders(tmp_path / "train.jsonl", 10),
        "--eval_datasets", write_orders(tmp_path / "heldout.jsonl", 4, start=100),
        "--use_cpu", "true", "--precision", "fp32", "--max_length", "256", "--learning_rate", "0.01",
        "--per_device_train_batch_size", "4", "--num_samples", "0", "--save_strategy", "no",
    ]  # fmt: skip
    results = [
        sft.main([*common, "--output_dir", str(tmp_path / how), "--torch_compile", how])["final_metrics"]
        for how in ("false", "true")
    ]
    assert results[1]["train_loss"] == pytest.approx(results[0]["train_loss"], rel=1e-5)
    assert results[1]["eval_loss"] == pytest.approx(results[0]["eval_loss"], rel=1e-5)
