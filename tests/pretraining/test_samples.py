"""What a model makes of held-out rows stays within the positions that it has."""

from __future__ import annotations

import pytest
import torch
from helpers.pretraining_tokenizers import byte_level_bpe_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.config.samples import SamplesConfig
from hf_align.pretraining.collators import make_collator
from hf_align.pretraining.samples import PretrainingSamples
from hf_align.types import PretrainingRow

POSITIONS = 16


@pytest.mark.parametrize(("name", "length"), [("causal", 16), ("causal", 10), ("decoder_prefix_lm", 16)])
def test_a_continuation_ends_where_the_positions_do(name: str, length: int) -> None:
    tokenizer = byte_level_bpe_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt2", n_positions=POSITIONS, n_embd=16, n_layer=1, n_head=2, vocab_size=len(tokenizer)
    )
    model = AutoModelForCausalLM.from_config(config)
    rows = [PretrainingRow({"input_ids": list(range(10, 10 + length)), "index": 0, "epoch": 0}, length)]
    samples = PretrainingSamples(
        model,
        tokenizer,
        name,
        make_collator(name, tokenizer),
        rows,
        ["here"],
        SamplesConfig(num_samples=1, sample_max_new_tokens=64),
    )
    samples.ends = []  # so that nothing but the positions ends it
    samples.generate("after", seed=0, main=True)
    (entry,) = samples.entries
    assert entry["after"] and samples._room(length // 2) == POSITIONS - length // 2
