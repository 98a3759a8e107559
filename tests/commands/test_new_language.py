"""The chain for a new language on a tiny model: tokens for Chinese, Chinese text, Chinese instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_runs import weights
from transformers import AutoTokenizer

from hf_align.commands import pretrain, sft, tokenizer

ROOT = Path(__file__).resolve().parents[2]
EMBEDDINGS = "model.embed_tokens.weight"


def options(**values: Any) -> list[str]:
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


@pytest.mark.slow
def test_the_recipes_for_chinese_build_on_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    base = save_tiny_checkpoint(tmp_path / "base")
    extended, continued, tuned = (tmp_path / name for name in ("extended", "continued", "tuned"))
    on_cpu = {"use_cpu": "true", "precision": "fp32", "num_samples": 1, "sample_max_new_tokens": 2}

    recipe = "recipes/tokenizer/extend_zh.yaml"
    made = tokenizer.main(["--config", recipe, *options(extend=base, new_tokens=150, output_dir=extended)])
    after, before = made["tokenizer"]["figures"]
    prose = [item["by"]["source"]["data/texts_zh.jsonl"] for item in (before, after)]
    assert prose[1]["tokens"] < 0.8 * prose[0]["tokens"] and prose[0]["characters"] == prose[1]["characters"]

    recipe = "recipes/pretrain/continue_zh.yaml"
    more = options(
        model_name_or_path=extended,
        output_dir=continued,
        max_steps=30,
        eval_steps=30,
        learning_rate=0.003,
        dataset_cache="false",
        **on_cpu,
    )
    found = pretrain.main(["--config", recipe, *more])["pretraining"]
    for source, earlier in zip(found["after"][:2], found["before"][:2], strict=True):
        assert source["name"] in ("data/texts_zh.jsonl", "data/orders_heldout.jsonl")
        assert source["bits_per_character"] < earlier["bits_per_character"] - 1
    assert len(AutoTokenizer.from_pretrained(continued)) == len(AutoTokenizer.from_pretrained(extended))
    new = made["extension"]["first_id"]
    moved = (weights(continued)[EMBEDDINGS] - weights(extended)[EMBEDDINGS]).abs().amax(dim=1)
    assert (moved[new:] > 0).all(), "all rows are trained, those of the new tokens too"

    more = options(model_name_or_path=continued, output_dir=tuned, num_train_epochs=1, **on_cpu)
    record = sft.main(["--config", "recipes/sft/zh.yaml", *more])
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]
    # Only the Chinese orders are held out, not the English ones before them.
    assert record["data_report"]["eval_rows"] == 20
    assert all("订单" in entry["prompt"] for entry in record["generations"])
