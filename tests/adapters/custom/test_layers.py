"""Adapters of our own keep PEFT's manners: files, several on one base, refusal of another base, biases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.saved_bottlenecks import bottleneck
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import tiny_model
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hf_align.adapters.bitfit import BitFitOptions
from hf_align.adapters.custom.model import add_adapter, load_custom
from hf_align.adapters.methods import METHODS
from hf_align.errors import UserError

IDS = torch.arange(5, 15)[None]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, Path]:
    """(a base on disk, the folder of an adapter that was trained on it)."""
    base = save_tiny_checkpoint(tmp_path / "base")
    model = bottleneck(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    model.save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter"


def test_it_is_a_peft_model_whose_files_hold_the_added_weights_only(saved: tuple[str, Path]) -> None:
    base, folder = saved
    model = load_custom(AutoModelForCausalLM.from_pretrained(base), folder)
    assert isinstance(model, PeftModel)
    assert model.get_base_model().config is model.config
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    weights = load_file(folder / "adapter_model.safetensors")
    # Two blocks; 32 x 4 and 4 x 32 with their biases.
    assert sum(value.numel() for value in weights.values()) == 2 * (32 * 4 + 4 + 4 * 32 + 32)
    assert "model.layers.0.mlp.down_proj.up.weight" in weights
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "HF_ALIGN_BOTTLENECK"
    assert config["options"]["placement"] == "pfeiffer"
    assert config["base_model_name_or_path"] == base


def test_the_summary_counts_what_is_trained() -> None:
    model = bottleneck(tiny_model("llama"))
    trained, total = model.get_nb_trainable_parameters()
    assert trained == 2 * (32 * 4 + 4 + 4 * 32 + 32)
    assert total == trained + sum(p.numel() for p in tiny_model("llama").parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_base_in_another_number_format_is_taken(saved: tuple[str, Path], dtype: Any) -> None:
    base, folder = saved
    assert load_custom(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), folder)


def test_a_base_with_a_new_token_is_taken(saved: tuple[str, Path]) -> None:
    base, folder = saved
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(model.config.vocab_size + 1)
    assert load_custom(model, folder)


def test_a_second_adapter_leaves_alone_what_is_trained(saved: tuple[str, Path]) -> None:
    base, folder = saved
    model = bottleneck(AutoModelForCausalLM.from_pretrained(base))
    model.load_adapter(folder, "frozen")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".added.default." in name for name in trained)


def test_bitfit_moves_biases_and_nothing_else() -> None:
    base = tiny_model("gpt2")
    biases = [name for name, _ in base.named_parameters() if name.endswith(".bias")]
    model = add_adapter(base, METHODS["bitfit"], BitFitOptions())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == len(biases) == 2 * 6 + 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.fill_(0.25)
    expected = model(input_ids=IDS).logits
    # The same as a GPT-2 whose biases are larger by as much.
    plain = tiny_model("gpt2")
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.endswith(".bias"):
                parameter.add_(0.25)
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_biases_is_refused_with_what_to_take_instead() -> None:
    with pytest.raises(UserError, match=r"LlamaForCausalLM has none.*SmolLM2.*GPT-2.*ln_tuning"):
        add_adapter(tiny_model("llama"), METHODS["bitfit"], BitFitOptions())
