"""EVA: A spans the main directions of a layer's inputs, ranks move to where they explain more, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import random_rows, tiny_model
from peft import PeftModel

from hf_align.adapters import eva
from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.data.packing import pack_rows
from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs, places

RANK = 4


def lora(model: Any, **options: Any) -> Any:
    keys = {"adapter": "lora", "lora_r": RANK, "init_lora_weights": "eva", **options}
    return apply_adapter(model, AdapterConfig(**keys))


def arguments(rows: Any) -> tuple[dict[str, Any], torch.Tensor]:
    batch = pack_rows(rows)
    inputs = model_inputs(batch)
    return inputs, places(inputs, batch.shift_labels != -100)


def packed_model(dtype: torch.dtype = torch.float32) -> Any:
    """A model whose packed batches hold real tokens alone."""
    base = tiny_model("llama").to(dtype)
    assert enable_segment_attention(base)
    install_target_head(base)
    return base


def inputs_of(base: Any, batches: Any) -> dict[str, torch.Tensor]:
    """By name of every linear layer in the blocks: (n, d) float64, its inputs where a target is predicted."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, given, name=name: seen.setdefault(name, []).append(given[0].detach())
        )
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and "layers" in name
    ]
    for rows in batches:
        inputs, counted = arguments(rows)
        with torch.no_grad():
            base(**inputs)
        for parts in seen.values():
            parts[-1] = parts[-1][counted].double()
    found = {name: torch.cat(parts) for name, parts in seen.items()}
    for hook in hooks:
        hook.remove()
    return found


def test_directions_are_those_of_a_full_decomposition_of_the_same_inputs() -> None:
    batches = [random_rows([40, 60, 50], seed=1)]
    plain = inputs_of(packed_model(), batches)
    model = lora(packed_model(), eva_rho=1.0)
    found = eva.find_directions(model, batches, arguments, show_progress=False)
    eva.put_in(model, found.directions)
    assert len(found.directions) == 14
    clear = 0
    assert found.positions == sum(row.target_tokens for row in batches[0])
    for name, layer in eva.lora_layers(model).items():
        inputs = plain[name.removeprefix("base_model.model.")]
        centred = inputs - inputs.mean(0)
        _, values, directions = torch.linalg.svd(centred, full_matrices=False)
        ours = layer.lora_A["default"].weight.detach().double()
        torch.testing.assert_close(ours @ ours.T, torch.eye(RANK).double(), rtol=0, atol=1e-4)
        # No four directions hold more of the variance than those of the decomposition; PEFT's are found at
        # random, and hold almost as much.
        share = (centred @ ours.T).square().sum() / centred.square().sum()
        best = values[:RANK].square().sum() / values.square().sum()
        assert 0.995 * best < share <= best + 1e-6, name
        assert found.explained[name] == pytest.approx(float(share), rel=1e-4)
        # Where one stands out from its neighbours, it is the same one, up to its sign.
        cosines = (ours * directions[:RANK]).sum(1).abs()
        steps = values[:RANK] / values[1 : RANK + 1]
        apart = (steps > 1.15) & torch.cat([torch.ones(1).bool(), steps[:-1] > 1.15])
        clear += int(apart.sum())
        assert (cosines[apart] > 0.99).all(), (name, cosines, values[: RANK + 1])
    assert clear >= 8


def test_ranks_move_and_their_sum_and_scale_stay(tmp_path: Path) -> None:
    batches = [random_rows([60, 60, 50], seed=seed) for seed in range(3)]
    base = packed_model()
    inputs, _ = arguments(batches[0])
    before = base(**inputs)["logps"].detach()
    model = lora(base)
    found = eva.find_directions(model, batches, arguments, show_progress=False)
    eva.put_in(model, found.directions)
    ranks = {name: len(axes) for name, axes in found.directions.items()}
    assert sum(ranks.values()) == 14 * RANK
    assert len(set(ranks.values())) > 1, "some layers have got more than others"
    layers = eva.lora_layers(model)
    assert set(layers) == {name for name, rank in ranks.items() if rank}
    for name, layer in layers.items():
        assert layer.r["default"] == ranks[name] <= 2 * RANK
        assert layer.scaling["default"] == pytest.approx(32 / RANK)
    # B is zero: the model begins where the base is.
    torch.testing.assert_close(model(**inputs)["logps"].detach(), before, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    trained = model(**inputs)["logps"].detach()
    assert not torch.allclose(trained, before, atol=1e-2)
    # What is saved gives the same in one call, and says which ranks a run goes on with.
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(packed_model(), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(**inputs)["logps"], trained, rtol=1e-5, atol=1e-5)
    again = lora(packed_model())
    eva.put_in(again, eva.directions_of(again, tmp_path))
    shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    assert {name: p.shape for name, p in again.named_parameters() if p.requires_grad} == shapes
    scales = {name: layer.scaling for name, layer in eva.lora_layers(again).items()}
    assert scales == {name: layer.scaling for name, layer in layers.items()}


def test_the_same_rows_give_the_same_directions() -> None:
    batches = [random_rows([60, 60], seed=seed) for seed in range(3)]
    torch.manual_seed(1)
    one = eva.find_directions(lora(packed_model()), batches, arguments, show_progress=False)
    torch.manual_seed(2)
    two = eva.find_directions(lora(packed_model()), batches, arguments, show_progress=False)
    assert all(torch.equal(axes, two.directions[name]) for name, axes in one.directions.items())
    assert one.explained == two.explained


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"eva_whiten": True}], ids=str)
def test_on_a_base_in_half_precision_what_is_trained_is_float32(options: dict[str, Any]) -> None:
    batches = [random_rows([60, 60], seed=seed) for seed in range(2)]
    base = packed_model(torch.bfloat16)
    inputs, _ = arguments(batches[0])
    before = base(**inputs)["logps"].detach()
    model = lora(base, **options)
    found = eva.find_directions(model, batches, arguments, show_progress=False)
    eva.put_in(model, found.directions)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    torch.testing.assert_close(model(**inputs)["logps"].detach(), before, rtol=2e-2, atol=2e-2)


def test_ranks_that_cannot_be_found_are_refused_with_those_that_can() -> None:
    rows = random_rows([60, 60])
    # Twice 2 x 10 directions of 32 inputs.
    with pytest.raises(UserError, match=r"32 inputs of model\.layers.*eva_rho to 1, or lora_r to 8 or less"):
        eva.find_directions(lora(packed_model(), lora_r=10), [rows], arguments)
    with pytest.raises(
        UserError, match=r"gets \d+ inputs that count, and eva needs 16.*max_tokens_per_batch"
    ):
        eva.find_directions(lora(packed_model()), [random_rows([9])], arguments, show_progress=False)


def test_directions_that_go_on_turning_are_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eva, "MOST_PASSES", 3)
    batches = [random_rows([60, 60], seed=seed) for seed in range(9)]
    with pytest.raises(UserError, match=r"after 3 passes the directions of eva still turn; lower eva_tau"):
        eva.find_directions(lora(packed_model(), eva_tau=1.0), batches, arguments, show_progress=False)
