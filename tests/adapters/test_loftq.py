"""LoftQ: the update begins as the best correction of its rank of what quantisation took away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors.torch import load_file

from hf_align.adapters.factory import apply_adapter
from hf_align.adapters.loftq import low_rank
from hf_align.config import AdapterConfig, ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model

IDS = torch.arange(5, 25)[None]


def base_of(name: str, **quantised: bool) -> Any:
    return load_model(ModelConfig(name, **quantised), trainable_base=False, precision="fp32", use_cpu=True)


def loftq(base: Any, **options: Any) -> Any:
    keys = {"adapter": "lora", "lora_r": 8, "init_lora_weights": "loftq", **options}
    return apply_adapter(base, AdapterConfig(**keys))


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)], ids=str)
def test_no_product_of_that_rank_is_nearer(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    b, a = low_rank(matrix, 5)
    assert b.shape == (shape[0], 5)
    assert a.shape == (5, shape[1])
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(b @ a, u[:, :5] * sizes[:5] @ v[:5], rtol=1e-4, atol=1e-5)
    # Split evenly, so that neither learns faster than the other.
    torch.testing.assert_close(b.norm(dim=0), a.norm(dim=1))


@pytest.mark.parametrize("alpha", [8.0, 16.0])
def test_it_corrects_what_the_disk_says_was_lost(tmp_path: Path, alpha: float) -> None:
    name = save_tiny_checkpoint(tmp_path / "model")
    model = loftq(base_of(name, load_in_4bit=True), lora_alpha=alpha)
    original = load_file(tmp_path / "model" / "model.safetensors")
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    assert len(layers) == 14
    for path, layer in layers.items():
        weight = original[f"{path.removeprefix('base_model.model.')}.weight"]
        lost = weight - dequantize_module_weight(layer.get_base_layer()).float()
        left = lost - layer.get_delta_weight("default")
        # Whatever scale lora_alpha gives: what is left are the directions beyond the eight largest.
        expected = torch.linalg.svdvals(lost)[8:].norm()
        assert expected < lost.norm()
        torch.testing.assert_close(left.norm(), expected, rtol=1e-3, atol=1e-6)


def test_it_begins_nearer_to_the_model_before_quantisation(tmp_path: Path) -> None:
    name = save_tiny_checkpoint(tmp_path / "model")
    with torch.no_grad():
        exact = base_of(name)(input_ids=IDS).logits
        rounded = base_of(name, load_in_4bit=True)(input_ids=IDS).logits
        model = loftq(base_of(name, load_in_4bit=True)).eval()
        corrected = model(input_ids=IDS).logits
        with model.disable_adapter():
            off = model(input_ids=IDS).logits
    assert (corrected - exact).norm() < 0.8 * (rounded - exact).norm()
    torch.testing.assert_close(off, rounded)


def test_weights_in_shards_are_found(tmp_path: Path) -> None:
    name = save_tiny_checkpoint(tmp_path / "model")
    whole = loftq(base_of(name, load_in_4bit=True))
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(name).save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    (tmp_path / "model" / "model.safetensors").unlink()
    parts = loftq(base_of(str(tmp_path / "shards"), load_in_4bit=True))
    trained = {key: value for key, value in whole.state_dict().items() if "lora_" in key}
    assert trained
    assert all(torch.equal(parts.state_dict()[key], value) for key, value in trained.items())


def test_where_the_weights_are_gone_it_is_refused(tmp_path: Path) -> None:
    name = save_tiny_checkpoint(tmp_path / "model")
    base = base_of(name, load_in_4bit=True)
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"loftq needs the weights of '.*model' before quantisation"):
        loftq(base)
    with pytest.raises(UserError, match="none of the layers that the adapter is put on is held in 4 bits"):
        loftq(base_of(save_tiny_checkpoint(tmp_path / "plain")))
