"""Whatever a family does with its cache, answers have the log-probabilities of a full pass over them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from helpers.tiny_models import VOCABULARY, redraw, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.errors import UserError
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_tokens
from hf_align.sampling.ways import WAYS, way_for

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "diffllama": SIZES,
    "recurrent_gemma": {**SIZES, "attention_window_size": 8, "lru_width": 32},
    "mixtral": {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama": SIZES,
}
PROMPTS = [list(range(5, 12)), [40, 41], [8], [9], list(range(60, 67)), [50, 51, 52]]
BOUND = 9


def built(family: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES.get(family, {}), **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    return model


def largest_difference(model: Any, samples: int, *, stop_ids: tuple[int, ...] = ()) -> float:
    """In nats, of the log-probabilities of sampled answers from those of a full pass over each alone."""
    found = sample_continuations(
        model,
        PROMPTS,
        Sampling(max_new_tokens=9, temperature=1.0),
        stop_ids=stop_ids,
        pad_token_id=0,
        samples=samples,
        generator=torch.Generator().manual_seed(0),
    )
    assert len(found) == len(PROMPTS) * samples
    largest = 0.0
    for one in found:
        prompt = PROMPTS[one.prompt]
        ids = torch.tensor([[*prompt, *one.tokens.tolist()]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logps = logits[0, -len(one.tokens) - 1 : -1].float().log_softmax(dim=-1)
        expected = logps.gather(1, ids[0, len(prompt) :, None])[:, 0]
        largest = max(largest, float((expected - torch.as_tensor(one.logps)).abs().max()))
    return largest


@pytest.mark.parametrize(
    ("family", "means"),
    [
        ("diffllama", "every sample keeps the keys of its prompt for itself"),
        ("recurrent_gemma", "every sample reads its prompt by itself, and only prompts of equal length"),
        ("mixtral", ""),
        ("llama", ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_samples_are_right_in_the_fastest_way_that_is(
    family: str, means: str, packed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = built(family)
    if packed and not enable_segment_attention(model):
        pytest.skip("not packed")
    caplog.clear()
    for samples in (3, 1):
        # Many tokens end an answer, so that sequences leave early.
        assert largest_difference(model, samples, stop_ids=tuple(range(3, 20))) < 1e-4
    said = [record.getMessage() for record in caplog.records if record.name.endswith("ways")]
    assert len(said) == bool(means), "once for the model"
    assert means in "".join(said)


@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix"])
@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3"])
def test_virtual_tokens_before_prompts_of_unequal_length_and_a_window(method: str, family: str) -> None:
    base = tiny_model(family)
    install_target_head(base)
    torch.manual_seed(5)
    model: Any = apply_adapter(base, AdapterConfig(adapter=method, num_virtual_tokens=4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert largest_difference(model, 2) < 1e-4
    assert not way_for(model, 0).pads


def test_a_model_with_which_no_way_is_right_is_refused() -> None:
    # CPM-Ant wants to read all of a sequence again beside its cache.
    sizes = {"dim_head": 8, "dim_ff": 48, "prompt_length": 4, "prompt_types": 32, "segment_types": 32}
    config = AutoConfig.for_model(
        "cpmant", vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, **sizes
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UserError, match="CpmAntForCausalLM cannot write answers here: with"):
        largest_difference(model, 1)


def test_half_precision_rounds_and_is_still_told_from_what_is_wrong() -> None:
    for family, expected in (("llama", 0), ("mixtral", 0), ("diffllama", 1)):
        way = way_for(built(family).bfloat16(), 0)
        assert list(WAYS).index(way) == expected, family
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert way_for(built(family), 0) == way


def test_autocast_that_begins_inside_forward_is_seen() -> None:
    """As Accelerate wraps a model whose weights stay float32."""
    model = built("llama")
    forward = model.forward

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = forward(*args, **kwargs)
        output.logits = output.logits.float()
        return output

    model.forward = wrapped
    assert way_for(model, 0) == next(iter(WAYS))


def test_the_way_is_looked_for_once_for_each_model() -> None:
    model = built("llama")
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    way_for(model, 0)
    count = len(passes)
    state = torch.get_rng_state()
    assert way_for(model, 0) == way_for(model, 0) and len(passes) == count
    assert torch.equal(state, torch.get_rng_state())


def longrope() -> Any:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [1.5, 3.0, 6.0, 12.0],
    }
    options = {"rope_parameters": rope, "max_position_embeddings": 64, "pad_token_id": 0}
    options |= {"original_max_position_embeddings": BOUND, "eos_token_id": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **SIZES, **options)).float().eval()
    redraw(model, 0.25)
    return model


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("samples", [1, 2])
def test_no_prompt_is_read_by_the_positions_of_a_longer_one(
    packed: bool, samples: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each token follows from a full pass over what is there, as transformers' own generate does."""
    caplog.set_level(logging.WARNING)
    model, reference = longrope(), longrope()
    if packed:
        assert enable_segment_attention(model)
    prompts = [list(range(5, 17)), [20, 21], list(range(30, 37)), list(range(40, 49)), list(range(50, 57))]
    found = sample_continuations(
        model, prompts, Sampling(max_new_tokens=5), stop_ids=[], pad_token_id=0, samples=samples
    )
    differ = 0
    for one in found:
        ids = list(prompts[one.prompt])
        for token, logp in zip(one.tokens.tolist(), one.logps.tolist(), strict=True):
            with torch.no_grad():
                logps = (
                    reference(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
                )
            assert token == int(logps.argmax()) and logp == pytest.approx(float(logps[token]), abs=1e-4)
            ids.append(token)
        differ += len(ids) > BOUND >= len(prompts[one.prompt])
    assert differ, "some prompts come to the bound while they are answered"
    for prompt, one in zip(prompts, found[::samples], strict=True):
        streamed = stream_tokens(model, prompt, Sampling(max_new_tokens=5), stop_ids=[])
        assert list(streamed) == one.tokens.tolist()
