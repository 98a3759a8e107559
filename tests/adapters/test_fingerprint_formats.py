"""An adapter on its base in another number format: taken, with a line in the log; another base is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint
from safetensors.torch import load_file, save_file

from hf_align.adapters.bottleneck import BottleneckOptions
from hf_align.adapters.custom.model import add_adapter, load_custom
from hf_align.adapters.fingerprint import number_format
from hf_align.adapters.methods import METHODS
from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model
from hf_align.saved_models.run_models import find_model, load_run_model

FORMATS: dict[str, dict[str, Any]] = {
    "": {},
    "nf4": {"load_in_4bit": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "use_bnb_nested_quant": False},
    "int8": {"load_in_8bit": True},
}
IDS = torch.arange(5, 17)[None]


def base_of(folder: str, held: str, precision: Any = "bf16") -> Any:
    config = ModelConfig(folder, **FORMATS[held])
    return load_model(config, trainable_base=False, precision=precision, use_cpu=True)


def saved_adapter(base: Any, folder: Path) -> Path:
    model = add_adapter(base, METHODS["bottleneck"], BottleneckOptions(width=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".up." in name:
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_every_format_of_the_same_base_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tied: bool
) -> None:
    name = save_tiny_checkpoint(tmp_path / "base", tie_word_embeddings=tied, attention_bias=True)
    for trained in FORMATS:
        base = base_of(name, trained)
        assert number_format(base) == trained
        folder = saved_adapter(base, tmp_path / f"adapter{trained}")
        for held in FORMATS:
            caplog.clear()
            model = load_custom(base_of(name, held), folder)
            assert torch.isfinite(model(input_ids=IDS).logits).all()
            assert ("differs by the rounding" in caplog.text) is (held != trained)
            if (trained, held) == ("", "nf4"):
                assert (
                    "trained on a base that is not quantised and is put on the same base in nf4"
                    in caplog.text
                )


@pytest.mark.parametrize(
    "changed", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.bias"]
)
def test_another_base_is_refused_in_whatever_format(tmp_path: Path, changed: str) -> None:
    name = save_tiny_checkpoint(tmp_path / "base", mlp_bias=True)
    folder = saved_adapter(base_of(name, ""), tmp_path / "adapter")
    path = tmp_path / "base" / "model.safetensors"
    state = load_file(path)
    state[changed][0] += 0.5
    save_file(state, path, metadata={"format": "pt"})
    for held in FORMATS:
        with pytest.raises(UserError, match=r"another base.*embeddings, biases or norms hold other values"):
            load_custom(base_of(name, held), folder)


def test_an_adapter_of_peft_says_so_where_its_run_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = save_tiny_checkpoint(tmp_path / "base")
    recipe = {"model_name_or_path": name, "load_in_4bit": False, "load_in_8bit": False}
    folder = save_adapter(tmp_path / "run", name, recipe=recipe)
    load_run_model(find_model(ModelConfig(folder), use_cpu=True), use_cpu=True)
    assert "rounding" not in caplog.text
    model, _ = load_run_model(find_model(ModelConfig(folder, load_in_4bit=True), use_cpu=True), use_cpu=True)
    assert number_format(model) == "nf4"
    assert "that is not quantised and is put on the same base in nf4" in caplog.text
