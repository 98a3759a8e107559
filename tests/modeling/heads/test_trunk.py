"""Where a head reads its states: in the base model, in the decoder inside it, or in neither."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_models import PACKABLE, UNPACKABLE, redraw, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.data.packing import pad_rows
from hf_align.errors import UserError
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.heads.trunk import find_trunk
from hf_align.modeling.inputs import model_inputs
from hf_align.types import TokenizedRow

BART: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "is_decoder": True,
    "is_encoder_decoder": False,
}


@pytest.mark.parametrize("family", sorted(PACKABLE | UNPACKABLE))
def test_it_is_the_base_model_but_for_opt(family: str) -> None:
    model = tiny_model(family).train()
    before = torch.get_rng_state()
    path = find_trunk(model)
    assert path == ("model.decoder" if family == "opt" else model.base_model_prefix)
    assert model.training and not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_decoder_taken_out_of_an_encoder_decoder_gives_its_own_log_probabilities() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("bart", **BART), dtype=torch.float32).eval()
    redraw(model, 0.15)
    ids = torch.arange(5, 17)
    with torch.no_grad():
        everything = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
        install_target_head(model)
        mask = ids.numpy() > 6
        batch = pad_rows([TokenizedRow(ids.numpy().astype("int32"), mask)], 0)
        found = model(**model_inputs(batch))["logps"]
    torch.testing.assert_close(found, everything[1:-1].gather(1, ids[2:, None])[:, 0], rtol=1e-4, atol=1e-5)


class Elsewhere(LlamaForCausalLM):
    """A head on states that nothing else can stand in for."""

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return self.lm_head(self.model.embed_tokens(input_ids))


def test_a_head_on_other_states_is_refused() -> None:
    model = Elsewhere(tiny_model("llama").config)
    with pytest.raises(UserError, match="Elsewhere computes its logits from other states"):
        install_target_head(model)


def test_a_ladder_stands_where_the_head_reads() -> None:
    """The plain forward of OPT passes by its base model, and so would pass by a ladder that stands there."""
    base = tiny_model("opt")
    ids = torch.arange(5, 17)
    mask = ids.numpy() > 6
    batch = pad_rows([TokenizedRow(ids.numpy().astype("int32"), mask)], 0)
    install_target_head(base)
    with torch.no_grad():
        start = base(**model_inputs(batch))["logps"]
        model = apply_adapter(base, AdapterConfig(adapter="ladder", ladder_reduction_factor=4)).eval()
        assert torch.equal(model(**model_inputs(batch))["logps"], start)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        found = model(**model_inputs(batch))["logps"]
        plain = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
    assert (found - start).abs().max() > 0.01
    torch.testing.assert_close(found, plain[1:-1].gather(1, ids[2:, None])[:, 0], rtol=1e-4, atol=1e-5)
