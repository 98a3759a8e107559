"""The digest of a model changes with everything that decides what it computes, and with nothing else."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import tiny_model
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from hf_align.config import ModelConfig
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.loading import load_model
from hf_align.modeling.weights_digest import model_digest


def test_it_is_the_same_for_the_same_model() -> None:
    model = tiny_model("llama")
    digest = model_digest(model)
    assert digest == model_digest(tiny_model("llama"))
    assert digest != model_digest(tiny_model("llama", seed=1))
    model(torch.arange(3, 9).unsqueeze(0))
    install_target_head(model)
    model.train()
    model.config.use_cache = False
    assert model_digest(model) == digest


def test_a_copied_folder_holds_the_same_model(tmp_path: Path) -> None:
    first = save_tiny_checkpoint(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    digests = {
        model_digest(AutoModelForCausalLM.from_pretrained(folder)) for folder in (first, tmp_path / "second")
    }
    assert len(digests) == 1


def _last_weight(model: Any) -> None:
    list(model.parameters())[-1].data.view(-1)[-1] += 1e-6


def _buffer_that_is_not_saved(model: Any) -> None:
    model.model.rotary_emb.inv_freq[0] *= 2
    assert "inv_freq" not in str(list(model.state_dict()))


def _number_format(model: Any) -> None:
    model.to(torch.bfloat16)


def _setting(model: Any) -> None:
    model.config.rms_norm_eps = 0.1


def _name(model: Any) -> None:
    weights = model.model.layers[0].self_attn
    # The same bytes under exchanged names.
    weights.q_proj.weight.data, weights.o_proj.weight.data = (
        weights.o_proj.weight.data,
        weights.q_proj.weight.data,
    )


def _shape(model: Any) -> None:
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.data = weight.data.view(weight.shape[1], weight.shape[0])


@pytest.mark.parametrize(
    "change", [_last_weight, _buffer_that_is_not_saved, _number_format, _setting, _name, _shape]
)
def test_it_changes_with(change: Any) -> None:
    model = tiny_model("llama")
    digest = model_digest(model)
    change(model)
    assert model_digest(model) != digest


@pytest.mark.parametrize("quantised", [{"load_in_4bit": True}, {"load_in_8bit": True}], ids=str)
def test_the_state_of_quantised_weights_counts(tmp_path: Path, quantised: dict[str, bool]) -> None:
    folder = save_tiny_checkpoint(tmp_path / "model", hidden_size=64, intermediate_size=128)

    def load() -> Any:
        config = ModelConfig(folder, **quantised)
        return load_model(config, trainable_base=False, precision="fp32", use_cpu=True).eval()

    model = load()
    digest = model_digest(model)
    assert model_digest(load()) == digest
    with torch.no_grad():
        model(torch.arange(3, 9).unsqueeze(0))
    assert model_digest(model) == digest, "running a model does not change it"
    layer = model.model.layers[0].mlp.up_proj
    # Only scales (of scales, in 4 bits): the bytes of the weight itself stay what they were.
    scales = layer.weight.quant_state.state2.absmax if "load_in_4bit" in quantised else layer.state.SCB
    scales[0] *= 1.5
    assert model_digest(model) != digest


def test_code_that_came_with_the_model_counts(tmp_path: Path) -> None:
    def load(code: str) -> str | None:
        path = tmp_path / "modeling_own.py"
        path.write_text(f"import torch\nclass Own(torch.nn.Linear):\n    {code}\n")
        spec = importlib.util.spec_from_file_location("modeling_own", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(__import__("sys").modules, "modeling_own", module)
            spec.loader.exec_module(module)
            model = tiny_model("llama")
            torch.manual_seed(0)
            model.lm_head = module.Own(32, 97, bias=False)
            return model_digest(model)

    first = load("scale = 1")
    assert first is not None and load("scale = 1") == first
    assert load("scale = 2") != first


def test_code_that_nobody_can_read_gives_no_digest() -> None:
    model = tiny_model("llama")
    namespace: dict[str, Any] = {"torch": torch, "__name__": "a_notebook"}
    exec("class Own(torch.nn.Linear):\n    pass", namespace)
    model.lm_head = namespace["Own"](32, 97, bias=False)
    assert model_digest(model) is None


def test_weights_that_are_not_in_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="not in memory"):
        model_digest(tiny_model("llama").to("meta"))


def test_how_an_adapter_is_used_counts_and_where_its_base_was_does_not() -> None:
    def adapted(alpha: int, base: str) -> str | None:
        torch.manual_seed(0)
        config = LoraConfig(r=4, lora_alpha=alpha, target_modules="all-linear")
        model = get_peft_model(tiny_model("llama"), config)
        model.peft_config["default"].base_model_name_or_path = base
        return model_digest(model)

    assert adapted(8, "a") == adapted(8, "b") != adapted(16, "a")
