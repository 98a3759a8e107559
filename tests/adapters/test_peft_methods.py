"""PEFT's methods by their names and options: what reaches PEFT; the other names work or are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.config.peft_names import peft_names
from hf_align.errors import UserError

IDS = torch.arange(5, 17)[None]


def lora(**options: Any) -> Any:
    return apply_adapter(tiny_model("llama"), AdapterConfig(adapter="lora", lora_r=4, **options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"use_rslora": True}, {"use_rslora": True}),
        ({"use_dora": True}, {"use_dora": True}),
        ({"init_lora_weights": "gaussian"}, {"init_lora_weights": "gaussian"}),
        ({"init_lora_weights": "pissa"}, {"init_lora_weights": "pissa"}),
        ({"init_lora_weights": "olora"}, {"init_lora_weights": "olora"}),
        ({"init_lora_weights": "eva", "eva_rho": 1.5}, {"init_lora_weights": "eva"}),
        ({"lora_alpha": 8.0, "lora_dropout": 0.1}, {"lora_alpha": 8.0, "lora_dropout": 0.1}),
        ({"peft_options": {"rank_pattern": {"q_proj": 2}}}, {"rank_pattern": {"q_proj": 2}}),
    ],
    ids=str,
)
def test_options_of_lora_reach_peft(options: dict[str, Any], expected: dict[str, Any]) -> None:
    config = lora(**options).peft_config["default"]
    assert {key: getattr(config, key) for key in expected} == expected
    if "eva_rho" in options:
        assert (config.eva_config.rho, config.eva_config.tau) == (1.5, 0.99)


def test_the_scale_with_and_without_rank_stabilisation() -> None:
    """lora_alpha / r, and lora_alpha / sqrt(r) (arXiv 2312.03732): 32 / 4 and 32 / 2."""
    for stabilised, scale in ((False, 8.0), (True, 16.0)):
        layer = lora(use_rslora=stabilised).base_model.model.model.layers[0].self_attn.q_proj
        assert layer.scaling["default"] == scale


def test_olora_on_layers_of_gpt_2_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"init_lora_weights: olora .* GPT2LMHeadModel \(Conv1D, as in GPT-2\)"
    ):
        apply_adapter(tiny_model("gpt2"), AdapterConfig(adapter="lora", init_lora_weights="olora"))


@pytest.mark.parametrize("init", ["default", "gaussian", "pissa", "olora", "eva"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whatever_the_update_begins_with_the_model_begins_as_the_base(init: Any, dtype: torch.dtype) -> None:
    base = tiny_model("llama").to(dtype)
    before = base(input_ids=IDS).logits.detach()
    model = apply_adapter(base, AdapterConfig(adapter="lora", lora_r=4, init_lora_weights=init))
    # Computing in bfloat16 moves the logits of this model by 0.012 of their deviation by itself; what pissa
    # and olora split is rounded on both sides.
    change = (model(input_ids=IDS).logits - before).float().square().mean().sqrt() / before.float().std()
    moves = init in ("pissa", "olora")
    assert change < (1e-5 if dtype == torch.float32 else 0.1 if moves else 0.01)
    with model.disable_adapter():
        off = (model(input_ids=IDS).logits - before).float().square().mean().sqrt() / before.float().std()
    assert bool(off > 0.3) is moves


def test_pissa_takes_the_largest_singular_values() -> None:
    """arXiv 2404.02948, equations 2 to 4: B·A is the best approximation of rank r, the base has the rest."""
    plain = tiny_model("llama").model.layers[0].self_attn.q_proj.weight.detach()
    layer = lora(init_lora_weights="pissa", lora_alpha=4.0).base_model.model.model.layers[0].self_attn.q_proj
    u, sizes, v = torch.linalg.svd(plain)
    torch.testing.assert_close(
        layer.get_delta_weight("default"), u[:, :4] * sizes[:4] @ v[:4], rtol=1e-3, atol=1e-5
    )
    rest = torch.linalg.svdvals(layer.base_layer.weight)
    torch.testing.assert_close(rest[:28], sizes[4:], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", peft_names())
def test_every_other_method_of_peft_trains_or_is_refused(name: str) -> None:
    base = tiny_model("llama")
    frozen = sum(p.numel() for p in base.parameters())
    try:
        model = apply_adapter(base, AdapterConfig(adapter=name))
    except UserError as refused:
        assert f"adapter: {name}" in str(refused)
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < frozen
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert any(p.grad is not None for p in trained)
