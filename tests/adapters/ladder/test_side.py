"""Ladder side tuning on decoders: what it starts as, what it computes, and what it leaves alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_ladders import laddered, ladders, tiny_ladder
from helpers.tiny_models import PACKABLE, UNPACKABLE, random_rows, tiny_model

from hf_align.adapters.blocks import find_blocks
from hf_align.adapters.ladder.roles import find_places
from hf_align.adapters.ladder.shape import backbone_shape
from hf_align.adapters.ladder.side import SideBlock
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import pack_rows, pad_rows
from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.checkpointing import enable_checkpointing
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.types import TokenizedRow

IDS = torch.arange(5, 17)[None]
ATTENDING = sorted(set(PACKABLE | UNPACKABLE) - {"mamba"})


@pytest.mark.parametrize("init", ["pruned", "random"])
@pytest.mark.parametrize("family", ATTENDING)
def test_the_start_is_the_base_and_training_moves_the_ladder_alone(family: str, init: str) -> None:
    base = tiny_model(family)
    before = base(input_ids=IDS).logits.detach()
    weights = copy.deepcopy(base.state_dict())
    model = laddered(base, moved=False, init=init)
    torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=0, atol=0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".added.default." in name for name in trained)
    model = laddered(tiny_model(family), init=init)
    model.train()
    assert (model(input_ids=IDS).logits - before).abs().max() > 1e-3
    model(input_ids=IDS).logits.logsumexp(dim=-1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    # Every weight says something, but for biases of keys, which softmax takes away again.
    still = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.abs().max() > 0]
    assert all("k_proj.bias" in name for name in still), still
    plain = {name.replace("base_layer.", ""): value for name, value in base.state_dict().items()}
    assert all(torch.equal(plain[name], value) for name, value in weights.items())


def test_the_gate_is_a_sigmoid_of_alpha_over_the_temperature() -> None:
    rung = SideBlock(torch.nn.Identity(), width=2, side_width=1, temperature=0.1)
    with torch.no_grad():
        rung.down.weight.copy_(torch.tensor([[1.0, 10.0]]))
    rung.state = torch.tensor([[[1.0, 2.0]]])  # down: 21
    hidden = torch.tensor([[[5.0]]])
    assert rung(hidden).item() == pytest.approx(0.5 * 21 + 0.5 * 5)
    with torch.no_grad():
        rung.alpha.fill_(0.05)
    share = 1 / (1 + math.exp(-0.05 / 0.1))
    assert rung(hidden).item() == pytest.approx(share * 21 + (1 - share) * 5)


def test_replace_hands_the_head_nothing_but_the_side_network() -> None:
    model = tiny_ladder(output="replace")
    (ladder,) = ladders(model)
    with torch.no_grad():
        ladder.up.weight.zero_()
    assert model(input_ids=IDS).logits.abs().max() == 0


def test_the_backbone_keeps_nothing_for_the_backward_pass() -> None:
    shapes = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    model = tiny_ladder().train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=IDS).logits.sum().backward()
    # 48 units in the backbone's feed-forward parts, 12 in those of the side network.
    assert any(12 in shape for shape in shapes)
    assert not any(48 in shape for shape in shapes)


@pytest.mark.parametrize("options", [{"every": 2}, {"layers": [0]}], ids=str)
def test_only_chosen_layers_are_read(options: dict[str, Any]) -> None:
    model = tiny_ladder(**options)
    (ladder,) = ladders(model)
    layer = 1 if "every" in options else 0
    assert ladder.side.layers == [layer]
    before = model(input_ids=IDS).logits
    last = ladder.side.rungs[0].down.weight
    with torch.no_grad():
        last.zero_()
    assert not torch.equal(model(input_ids=IDS).logits, before)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_encoders_are_refused(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    width = (
        {"dim": 32, "n_heads": 4} if kind == "distilbert" else {"hidden_size": 32, "num_attention_heads": 4}
    )
    config = AutoConfig.for_model(kind, vocab_size=97, **width)
    with pytest.raises(UserError, match="is an encoder"):
        laddered(AutoModelForSequenceClassification.from_config(config))


def _gradients(model: Any, batches: list[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of all targets in the order of the batches, and the gradients of their sum."""
    model.zero_grad()
    found = []
    for batch in batches:
        logps = model(**model_inputs(batch))["logps"]
        logps.sum().backward()
        found.append(logps.detach())
    return torch.cat(found), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", sorted(PACKABLE))
def test_packed_padded_and_single_rows_agree(family: str) -> None:
    rows = random_rows([9, 4, 13, 6])
    base = tiny_model(family)
    if family in ("gemma2",):  # transformers' default drops the soft-capping
        base.set_attn_implementation("eager")
    install_target_head(base)
    model = laddered(base)
    single = _gradients(model, [pad_rows([row], 0) for row in rows])
    padded = _gradients(model, [pad_rows(rows, 0)])
    base = tiny_model(family)
    assert enable_segment_attention(base)
    install_target_head(base)
    packed = _gradients(laddered(base), [pack_rows(rows)])
    for other in (padded, packed):
        torch.testing.assert_close(other[0], single[0], rtol=2e-4, atol=2e-4)
        assert other[1].keys() == single[1].keys()
        for name, gradient in single[1].items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(other[1][name], gradient, rtol=1e-3, atol=1e-3 * max(scale, 1e-3))


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_segments_of_a_row_do_not_see_each_other(family: str) -> None:
    base = tiny_model(family)
    assert enable_segment_attention(base)
    install_target_head(base)
    model = laddered(base)
    first, other, second = random_rows([7, 7, 9])
    count = first.target_tokens
    kept = [
        model(**model_inputs(pack_rows([row, second])))["logps"][-second.target_tokens :]
        for row in (first, TokenizedRow(other.input_ids, first.target_mask))
    ]
    assert count > 0
    assert torch.equal(*kept)


def test_answers_that_share_a_prompt_are_what_they_are_alone() -> None:
    rows = [random_comparison(5 + i, [4, 7], seed=i) for i in range(3)]
    base = tiny_model("llama")
    assert enable_segment_attention(base)
    assert shares_prefixes(base)
    install_target_head(base)
    model = laddered(base)
    shared, apart = (
        collate_comparisons(rows, packed=True, share_prefix=share).inputs for share in (True, False)
    )
    one, other = _gradients(model, [shared]), _gradients(model, [apart])
    torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
    for name, gradient in other[1].items():
        torch.testing.assert_close(one[1][name], gradient, rtol=1e-3, atol=1e-3)


def test_switched_off_saved_and_loaded(tmp_path: Path) -> None:
    base = tiny_model("llama")
    before = base(input_ids=IDS).logits.detach()
    model = laddered(base)
    after = model(input_ids=IDS).logits.detach()
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tiny_model("llama"), tmp_path)
    torch.testing.assert_close(loaded(input_ids=IDS).logits, after, rtol=0, atol=0)
    with pytest.raises(UserError, match="another base"):
        type(model).from_pretrained(tiny_model("llama", seed=5), tmp_path)


def test_final_states_are_those_that_the_head_sees() -> None:
    """A value head reads them, of training and of sampling alike."""
    base = tiny_model("llama")
    model = laddered(base)
    output = model(input_ids=IDS, output_hidden_states=True)
    logits = base.lm_head(output.hidden_states[-1])
    torch.testing.assert_close(logits, output.logits)


def test_recomputed_activations_give_the_same_gradients() -> None:
    batch = pad_rows(random_rows([9, 4, 13]), 0)
    results = []
    for checkpointing in (False, True):
        base = tiny_model("llama")
        install_target_head(base)
        model = laddered(base)
        if checkpointing:
            enable_checkpointing(model)
        results.append(_gradients(model.train(), [batch]))
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient)


def test_dropout_of_the_backbone_is_off_and_that_of_the_side_network_on() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    assert config.resid_pdrop > 0
    model = laddered(GPT2LMHeadModel(config)).train()
    (ladder,) = ladders(model)
    assert not torch.equal(model(input_ids=IDS).logits, model(input_ids=IDS).logits)
    ladder.side.eval()
    assert torch.equal(model(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_base(tmp_path: Path, bits: int) -> None:
    from hf_align.config import ModelConfig
    from hf_align.modeling.loading import load_model

    path = save_tiny_checkpoint(tmp_path, hidden_size=64, intermediate_size=128)
    config = ModelConfig(path, **{f"load_in_{bits}bit": True})
    base = load_model(config, trainable_base=False, precision="fp32", use_cpu=True)
    before = base(input_ids=IDS).logits
    plain = load_model(ModelConfig(path), trainable_base=False, precision="fp32", use_cpu=True)
    # Cut out of the quantised weights are numbers close to the plain ones.
    ours, theirs = (find_places(m, find_blocks(m)[0], backbone_shape(m.config))[0] for m in (base, plain))
    distance = torch.linalg.vector_norm(ours.weight() - theirs.weight())
    assert 0 < distance < 0.15 * torch.linalg.vector_norm(theirs.weight())
    model = laddered(base, moved=False).train()
    torch.testing.assert_close(model(input_ids=IDS).logits, before)
    (ladder,) = ladders(model)
    torch.nn.init.normal_(ladder.up.weight)
    model(input_ids=IDS).logits.logsumexp(dim=-1).sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.dtype == torch.float32 and p.grad is not None for p in trained)
