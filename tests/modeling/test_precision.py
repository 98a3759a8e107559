from __future__ import annotations

import pytest
import torch

from hf_align.errors import UserError
from hf_align.modeling import precision
from hf_align.modeling.precision import compute_dtype, resolve_precision, runs_on_cpu


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, fast: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert resolve_precision("auto", use_cpu=True) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_gpu(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    assert resolve_precision("auto") == expected
    if not supported:
        with pytest.raises(UserError, match="does not support bf16"):
            resolve_precision("bf16")
    assert resolve_precision("fp16") == "fp16"


def test_a_build_without_the_questions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision._cpu_has_fast_bf16()


def test_what_is_set_is_taken_and_fp16_needs_a_gpu() -> None:
    assert resolve_precision("fp32", use_cpu=True) == "fp32"
    assert resolve_precision("bf16", use_cpu=True) == "bf16"
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        resolve_precision("fp16", use_cpu=True)


def test_types_and_devices() -> None:
    assert [compute_dtype(p) for p in ("fp32", "bf16", "fp16")] == [
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ]
    assert runs_on_cpu(True)
    assert runs_on_cpu(False) is not torch.accelerator.is_available()
