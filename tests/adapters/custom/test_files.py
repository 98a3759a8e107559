"""Adapters of our own on disk: another base and files that are not whole are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.saved_bottlenecks import bottleneck
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.adapters.custom.model import load_custom
from hf_align.errors import UserError
from hf_align.saved_models.run_models import attach_adapter


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, Path]:
    """(a base on disk, the folder of an adapter that was trained on it)."""
    base = save_tiny_checkpoint(tmp_path / "base")
    model = bottleneck(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    model.save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter"


def test_another_base_is_refused(saved: tuple[str, Path], tmp_path: Path) -> None:
    base, folder = saved
    wider = save_tiny_checkpoint(tmp_path / "wider", intermediate_size=96)
    with pytest.raises(UserError, match=r"another base.*names or shapes.*trained on"):
        load_custom(AutoModelForCausalLM.from_pretrained(wider), folder)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[0, 0] += 0.5
    with pytest.raises(UserError, match="the shapes fit, but its linear layers hold other values"):
        load_custom(model, folder)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight[3] += 0.5
    with pytest.raises(UserError, match="its embeddings, biases or norms hold other values"):
        load_custom(model, folder)


def test_files_that_are_not_whole_are_named(saved: tuple[str, Path]) -> None:
    base, folder = saved
    model = AutoModelForCausalLM.from_pretrained(base)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        attach_adapter(model, folder, tiny_tokenizer())
    config = json.loads((folder / "adapter_config.json").read_text())
    config["peft_type"] = "HF_ALIGN_BOTLENECK"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"none of this release's methods.*'bottleneck'"):
        load_custom(model, folder)


def test_an_adapter_of_other_options_does_not_replace_one(saved: tuple[str, Path], tmp_path: Path) -> None:
    base, _ = saved
    model = bottleneck(AutoModelForCausalLM.from_pretrained(base), activation="gelu")
    model.save_pretrained(tmp_path / "gelu")
    other = bottleneck(AutoModelForCausalLM.from_pretrained(base))
    with pytest.raises(UserError, match=r"gelu.*expected bottleneck.*relu"):
        other.load_adapter(tmp_path / "gelu", "default")
