"""What a step compiles serves the next: no product is compiled for a length that lies near another one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import random_rows, tiny_model

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.probe_once import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.types import Batch

LENGTHS = range(60, 101)


def packed(length: int) -> Batch:
    return pack_rows(random_rows([length, length // 2], target_share=1.0))


def tree(length: int) -> Batch:
    return collate_comparisons([random_comparison(length // 2, (length // 2, 9), seed=1)], packed=True).inputs


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("make", [packed, tree])
def test_lengths_between_known_ones_compile_nothing(make, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_model("llama")
    assert enable_segment_attention(model)
    install_target_head(model)

    def compiled(lengths: Iterable[int]) -> int:
        """Products that a forward and a backward pass of each length had to compile."""
        capfd.readouterr()
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
            for length in lengths:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = -model(**model_inputs(make(length))).logps.sum()
                loss.backward()
        return capfd.readouterr().out.count("create:cache_miss")

    if not compiled(LENGTHS[::2]):
        pytest.skip("half-precision products are not compiled on this machine")
    assert compiled(LENGTHS[1::2]) == 0
