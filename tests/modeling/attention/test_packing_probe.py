"""The probe: families that cannot be packed are found by trying, and so is what it would pass over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.packed_gradients import assert_same, gradients, oracle, rows_with_targets, run
from helpers.tiny_models import PACKABLE, UNPACKABLE, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.data.packing import make_segments, pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.attention.segments import segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs


@pytest.mark.parametrize("family", sorted(UNPACKABLE))
def test_family_that_cannot_be_packed_is_found_and_padded_exactly(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(family)
    expected = oracle(model, rows_with_targets())
    reference = (expected.detach(), gradients(model, expected))
    with caplog.at_level("WARNING"):
        assert not enable_segment_attention(model)
    assert "batches are padded" in caplog.text
    install_target_head(model)
    assert_same(run(model, pad_rows(rows_with_targets(), pad_token_id=0)), reference)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("qwen2_moe", {"use_sliding_window": True, "num_experts": 4, "num_experts_per_tok": 2}),
        ("phimoe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ],
)
def test_a_window_that_attention_is_not_told_of_keeps_a_model_from_being_packed(
    family: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Their mask alone holds the window; rows of the probe are shorter than any, so that it shows nothing."""
    common = PACKABLE["llama"][1]
    config = AutoConfig.for_model(family, **{**common, **options}, sliding_window=6)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    # Other ways to run experts round one row by what stands beside it, which alone would be found.
    model.set_experts_implementation("batched_mm")
    with caplog.at_level("WARNING"):
        assert not enable_segment_attention(model)
    assert "its sliding window is in the mask alone" in caplog.text
    install_target_head(model)
    rows = rows_with_targets()
    padded = model(**model_inputs(pad_rows(rows, 0))).logps
    torch.testing.assert_close(padded, oracle(model, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["indices", "block_indices", "sinks", "s_aux", "position_bias"])
def test_what_changes_attention_is_not_passed_over(name: str) -> None:
    states = torch.zeros(1, 2, 3, 4)
    segments = make_segments([3])
    with pytest.raises(TypeError, match=f"does not support {name}"):
        segment_attention(
            torch.nn.Module(), states, states, states, None, segments=segments, **{name: states}
        )
