"""Encoder-decoder models: loading, and answers that padding and batches do not change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_classifiers import save_model
from helpers.tiny_ladders import tiny_seq2seq

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.heads.selecting import install_selecting_head
from hf_align.modeling.seq2seq import load_seq2seq, seeded, write_answers

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12]]


def test_loading(tmp_path: Path) -> None:
    given = {"trainable_base": True, "precision": "fp32", "use_cpu": True}
    model = load_seq2seq(ModelConfig(save_model("t5", tmp_path / "t5")), **given)  # type: ignore[arg-type]
    assert model.config.is_encoder_decoder and model.dtype == torch.float32
    with pytest.raises(UserError):
        load_seq2seq(ModelConfig(save_tiny_checkpoint(tmp_path / "llama")), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_answers_are_those_of_one_prompt_at_a_time(rows: int) -> None:
    model = tiny_seq2seq("t5")
    done: list[int] = []
    found = write_answers(
        model, PROMPTS, max_new_tokens=5, temperature=0.0, pad_token_id=0, rows=rows, progress=done.append
    )
    assert sum(done) == 3
    for prompt, answer in zip(PROMPTS, found, strict=True):
        alone = model.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)[0].tolist()[1:]
        assert answer[: len(alone)] == alone


def test_draws_inside_leave_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(7):
        assert torch.equal(torch.rand(2), first)


def test_a_family_whose_labels_are_shifted_by_a_function_beside_the_model() -> None:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    sizes = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16, "vocab_size": 30}
    config = AutoConfig.for_model("m2m_100", **sizes, pad_token_id=1, decoder_start_token_id=2)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    ids, labels = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, -100]])
    # The mean over targets of the negative log-likelihood, by the model itself.
    expected = model(input_ids=ids, labels=labels).loss
    install_selecting_head(model)
    found = model(input_ids=ids, shift_labels=labels)["logps"]
    torch.testing.assert_close(-found.mean(), expected)
