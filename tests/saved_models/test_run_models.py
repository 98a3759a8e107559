"""What a folder holds: a model, an adapter with its base and its run, or neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.saved_models.run_models import find_model, load_run_model

RECIPE = {"load_in_4bit": False, "load_in_8bit": False, "dtype": "bfloat16", "output_dir": "runs/a"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with an adapter whose base lies elsewhere."""
    base = save_tiny_checkpoint(tmp_path / "base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "run")
    tiny_tokenizer().save_pretrained(tmp_path / "run")
    record: dict[str, Any] = {"recipe": RECIPE, "model": {"precision": "fp32"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    return tmp_path / "run"


def test_an_adapter_is_found_with_its_base_and_its_recipe(run: Path) -> None:
    source = find_model(ModelConfig(str(run)), use_cpu=True)
    assert source.adapter == run and source.run_dir == run
    assert source.config.model_name_or_path == str(run.parent / "base")
    assert source.config.tokenizer_name_or_path == str(run) and source.config.dtype == "bfloat16"
    chosen = find_model(ModelConfig(str(run), dtype="float32"), chosen=("dtype",), use_cpu=True)
    assert chosen.config.dtype == "float32" and chosen.precision == "fp32"
    model, tokenizer = load_run_model(chosen, use_cpu=True)
    assert not model.training and tokenizer.chat_template
    with torch.no_grad():
        assert model(torch.tensor([[3, 4]])).logits.shape == (1, 2, len(tokenizer))


def test_another_base_takes_the_place_of_the_one_that_is_named(run: Path) -> None:
    source = find_model(ModelConfig(str(run)), base="elsewhere", use_cpu=True)
    assert source.config.model_name_or_path == "elsewhere"
    with pytest.raises(UserError, match=r"This is the base model that the adapter in .*--base_model"):
        load_run_model(source, use_cpu=True)


def test_a_checkpoint_knows_its_run(run: Path) -> None:
    inside = run / "checkpoint-5"
    save_tiny_checkpoint(inside)
    source = find_model(ModelConfig(str(inside)), use_cpu=True)
    assert source.adapter is None and source.run_dir == run and source.recipe["output_dir"] == "runs/a"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda run: (run / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda run: (run / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
        (lambda run: (run / "adapter_config.json").write_text("{}"), "it names no base model"),
        (
            lambda run: (run / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}'),
            "task_type is SEQ_CLS; expected CAUSAL_LM",
        ),
        (lambda run: (run / "adapter_config.json").unlink(), "saved nothing yet"),
    ],
)
def test_folders_that_are_not_whole(run: Path, prepare: Any, message: str) -> None:
    prepare(run)
    with pytest.raises(UserError, match=message):
        find_model(ModelConfig(str(run)), use_cpu=True)


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "inside")
    with pytest.raises(UserError, match="These folders inside it hold one, the newest first: inside"):
        find_model(ModelConfig(str(tmp_path)), use_cpu=True)
    with pytest.raises(UserError, match="is no adapter"):
        find_model(ModelConfig(str(tmp_path / "inside")), base="b", use_cpu=True)
