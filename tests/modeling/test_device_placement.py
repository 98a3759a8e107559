"""On a GPU every tensor of a pass has to be there; an emulated one shows those that are not.

What it computes has to be what the CPU computes, by the code that other devices take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import peft
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.documented_kernel import Kernel, OlderKernel
from helpers.emulated_device import emulated_cuda
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import PACKABLE, UNPACKABLE, random_rows, tiny_model
from transformers import AutoModelForCausalLM

from hf_align.adapters.peft_methods import load_peft
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import make_segments, pack_rows, pad_rows, to_device
from hf_align.modeling.attention import segments as attention
from hf_align.modeling.attention import varlen
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.seq2seq import seeded
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_tokens

ROWS = random_rows([9, 1, 23, 14], seed=3)
TREES = [
    random_comparison(11, (7, 4), seed=1),
    random_comparison(2, (3, 9, 5, 8), seed=2),
    random_comparison(0, (6, 5), seed=3),
]
PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21, 22, 23], [24]]


def passed(model: Any, batch: Any, *, weigh: str = "entropies") -> dict[str, torch.Tensor]:
    """Log-probabilities, entropies and the gradients of all parameters, on the CPU."""
    batch = to_device(batch, model.device)
    output = model(**model_inputs(batch), with_entropies=True)
    total = (output["logps"] * torch.linspace(0.5, 1.5, len(output["logps"]), device=model.device)).sum()
    model.zero_grad()
    (total + output[weigh].sum()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients and all(gradient.device == model.device for gradient in gradients.values())
    found = {"logps": output["logps"].detach(), "entropies": output["entropies"].detach(), **gradients}
    return {name: value.cpu() for name, value in found.items()}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).abs().max() / value.abs().max().clamp(min=1e-3)
        assert error < 4 * tolerance, f"{name}: {error:.1e}"


def ready(family: str, device: str, *, packed: bool) -> Any:
    model = tiny_model(family).to(device)
    assert not packed or (enable_segment_attention(model) and shares_prefixes(model))
    install_target_head(model, max_logits=97 * 16)
    return model


@pytest.mark.parametrize("family", sorted(PACKABLE))
def test_packed_rows_and_trees(family: str) -> None:
    batches = [pack_rows(ROWS), collate_comparisons(TREES, packed=True).inputs]
    on_cpu = ready(family, "cpu", packed=True)
    expected = [passed(on_cpu, batch) for batch in batches]
    with emulated_cuda():
        model = ready(family, "cuda", packed=True)
        assert model.device == torch.device("cuda", 0)
        for batch, values in zip(batches, expected, strict=True):
            same(passed(model, batch), values)


@pytest.mark.parametrize("family", [*sorted(UNPACKABLE), "llama"])
def test_padded_rows(family: str) -> None:
    batches = [pad_rows(ROWS, 0), collate_comparisons(TREES, packed=False).inputs]
    on_cpu = ready(family, "cpu", packed=False)
    expected = [passed(on_cpu, batch) for batch in batches]
    with emulated_cuda():
        model = ready(family, "cuda", packed=False)
        for batch, values in zip(batches, expected, strict=True):
            same(passed(model, batch), values)


@pytest.mark.parametrize("family", ["bloom", "mpt"])
def test_a_model_that_cannot_be_packed_is_found_out_there_as_well(family: str) -> None:
    with emulated_cuda():
        assert not enable_segment_attention(tiny_model(family).to("cuda"))


def test_tensors_that_were_left_on_the_cpu_are_seen() -> None:
    with emulated_cuda():
        model = ready("llama", "cuda", packed=True)
        batch = pack_rows(ROWS)
        with pytest.raises(RuntimeError, match="same device"):
            model(**model_inputs(batch))
        moved = model_inputs(to_device(batch, "cuda"))
        assert moved["input_ids"].shape == batch.input_ids.shape, "nothing is compiled for a length there"
        with pytest.raises(RuntimeError, match=r"device|indices should be"):
            model(**{**moved, "shift_labels": batch.shift_labels})
        with pytest.raises(RuntimeError, match="same device"):
            model(**{**moved, "position_ids": batch.position_ids})


@pytest.mark.parametrize("kind", [Kernel, OlderKernel])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt_neox"])
def test_half_precision_takes_the_variable_length_kernel(
    family: str, kind: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [pack_rows(ROWS), collate_comparisons(TREES, packed=True).inputs]
    on_cpu = ready(family, "cpu", packed=True)
    expected = [passed(on_cpu, batch) for batch in batches]
    kernel = kind()
    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    with emulated_cuda(bf16=True):
        model = ready(family, "cuda", packed=True).bfloat16()
        for batch, values in zip(batches, expected, strict=True):
            before = kernel.calls
            found = passed(model, batch)
            assert kernel.calls >= before + 2, "a call for each layer"
            assert torch.linalg.vector_norm(found["logps"] - values["logps"]) < 0.05 * values["logps"].norm()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_float32_weights_under_autocast_take_the_kernel_as_well(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated queries and keys come in float32 there."""
    kernel = Kernel()
    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    with emulated_cuda(bf16=True):
        model = ready(family, "cuda", packed=True)
        assert kernel.calls == 0
        with torch.autocast("cuda", torch.bfloat16):
            found = passed(model, pack_rows(ROWS))
        assert kernel.calls >= 2, "a call for each layer"
        assert all(value.dtype == torch.float32 for value in found.values())


def test_what_the_kernel_cannot_do_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    with emulated_cuda(bf16=True):
        segments = make_segments((3, 2), device="cuda")
        q = torch.randn(1, 4, 5, 8, device="cuda")
        for options in ({}, {"softcap": 3.0}, {"dropout": 0.5}):
            half = q if not options else q.bfloat16()
            attention.segment_attention(
                torch.nn.Identity(), half, half, half, None, segments=segments, **options
            )
    assert kernel.calls == 0


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt2", "bloom"])
@pytest.mark.parametrize("samples", [1, 3])
def test_sampling_and_streaming(family: str, samples: int) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=0.8, top_k=40, top_p=0.95)
    draws = torch.rand(
        (len(PROMPTS), samples, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    found = []

    def answers(device: str) -> None:
        model = tiny_model(family).to(device)
        if family in PACKABLE:
            assert enable_segment_attention(model)
        drawn = sample_continuations(
            model,
            PROMPTS,
            sampling,
            stop_ids=list(range(3, 20)),  # many sequences end early and leave the batch
            pad_token_id=0,
            samples=samples,
            draws=draws,
        )
        generator = torch.Generator(device=model.device).manual_seed(2)
        drawn += sample_continuations(
            model, PROMPTS, sampling, stop_ids=[], pad_token_id=0, generator=generator
        )
        torch.manual_seed(0)
        streamed = list(stream_tokens(model, PROMPTS[2], sampling, stop_ids=[3]))
        found.append(([one.tokens.tolist() for one in drawn], [one.logps for one in drawn], streamed))

    answers("cpu")
    with emulated_cuda():
        answers("cuda")
    (tokens, logps, streamed), (other_tokens, other_logps, other_streamed) = found
    assert tokens == other_tokens and streamed == other_streamed
    for one, other in zip(logps, other_logps, strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-4)


def test_drawing_from_a_seed_leaves_other_gpus_alone() -> None:
    with emulated_cuda(devices=8):
        read = mock.patch.object(torch.cuda, "get_rng_state", wraps=torch.cuda.get_rng_state)
        with read as states, seeded(3):
            torch.rand(1)
    assert [call.args for call in states.call_args_list] == [(0,)]


def test_an_adapter_is_read_to_where_its_base_is(tmp_path: Path) -> None:
    folder = Path(save_adapter(tmp_path / "adapter", save_tiny_checkpoint(tmp_path / "base")))
    with (
        emulated_cuda(),
        mock.patch.object(
            peft.peft_model, "load_peft_weights", wraps=peft.peft_model.load_peft_weights
        ) as read,
    ):
        for device in ("cpu", "cuda:0"):
            base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").to(device)
            model = load_peft(base, folder, (), place="here")
            assert read.call_args.kwargs["device"] == device
            assert {parameter.device.type for parameter in model.parameters()} == {base.device.type}
