"""``additional_special_tokens``: rows added, trained, saved with model or adapter, loaded in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_runs
from helpers.tiny_checkpoint import save_tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_align.config import ModelConfig
from hf_align.config.group import KeyProblem
from hf_align.errors import UserError
from hf_align.saved_models.merging import merge
from hf_align.saved_models.run_models import find_model, load_run_model
from hf_align.sft.recipe import SftConfig

TOKENS = ["<tool>", "</tool>"]
LORA = {"adapter": "lora", "lora_r": 2}


def run(folder: Path, **keys: Any) -> tuple[str, dict[str, Any]]:
    name = save_tiny_checkpoint(folder / "base", tie_word_embeddings=keys.pop("tied", True))
    data = folder / "rows.jsonl"
    rows = [{"prompt": f"call {n}:", "completion": f" <tool>{n}</tool>"} for n in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = {"model_name_or_path": name, "datasets": str(data), "eval_datasets": str(data)}
    options = {"num_samples": 0, "num_train_epochs": 1, "additional_special_tokens": TOKENS} | keys
    return name, tiny_runs.run(inputs, folder / "run", **options)


@pytest.mark.parametrize("tied", [True, False])
def test_beside_lora(tmp_path: Path, tied: bool) -> None:
    name, record = run(tmp_path, tied=tied, **LORA)
    trained = {part["name"]: part["parameters"] for part in record["model"]["trained"]}
    rows = [count for part, count in trained.items() if "token_adapter" in part]
    assert rows == [2 * 32] * (1 if tied else 2)
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]
    model, tokenizer = load_run_model(
        find_model(ModelConfig(str(tmp_path / "run")), use_cpu=True), use_cpu=True
    )
    base = AutoModelForCausalLM.from_pretrained(name)
    old = base.get_input_embeddings().weight
    new = tokenizer.convert_tokens_to_ids(TOKENS)
    assert new == [len(old), len(old) + 1] and tokenizer("<tool>x").input_ids[0] == new[0]
    rows_now = model.get_input_embeddings().weight
    assert torch.equal(rows_now[: len(old)], old)
    ids = torch.tensor([[5, *new, 7]])
    before = model(input_ids=ids).logits.detach()
    assert rows_now.shape[0] == len(tokenizer)
    # Both rows were trained away from the mean of their pieces.
    for token, id in zip(TOKENS, new, strict=True):
        pieces = AutoTokenizer.from_pretrained(name)(token).input_ids
        assert not torch.allclose(rows_now[id], old[pieces].mean(0), atol=1e-6)
    torch.testing.assert_close(merge(model)(input_ids=ids).logits, before, rtol=1e-4, atol=1e-5)


def test_with_the_whole_model(tmp_path: Path) -> None:
    name, _ = run(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(name)) + 2


def test_what_would_not_train_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainable: norms leaves out the embeddings"):
        run(tmp_path, trainable=["norms"])
    needed = {"model_name_or_path": "x", "datasets": ["x.jsonl"], "additional_special_tokens": "<tool>"}
    for keys, message in (
        ({"adapter": "bottleneck"}, "trained beside lora and qlora, or with the whole model"),
        ({**LORA, "init_lora_weights": "eva"}, "additional_special_tokens, init_lora_weights"),
        ({"additional_special_tokens": [" "]}, "cannot be blank"),
    ):
        with pytest.raises(KeyProblem, match=message):
            SftConfig.from_flat({**needed, **keys})
