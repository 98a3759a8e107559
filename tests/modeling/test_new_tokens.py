"""Rows for new tokens: where they start, ties, saving with the tokenizer, training them beside an adapter."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_corpus import CHINESE, ENGLISH
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from hf_align.errors import UserError
from hf_align.modeling.new_tokens import (
    add_embeddings,
    has_weights,
    load_model_to_extend,
    new_token_ids,
    save_extended,
)
from hf_align.tokenization.extend import extend_tokenizer
from hf_align.tokenization.recipe import ExtendOptions, TokenizerOptions
from hf_align.tokenization.train import train_tokenizer
from hf_align.types.tokens import Extension, NewToken


def _llama(rows=6, tied=True, dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=4,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype)


def _extension(first_id=6):
    tokens = (NewToken("ab", (0, 3)), NewToken("abb", (0, 3, 3)), NewToken("?", ()))
    return Extension(SimpleNamespace(), first_id, tokens)


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_means_of_their_pieces(tied):
    model = _llama(tied=tied)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.arange(24.0).reshape(6, 4))
        if not tied:
            model.get_output_embeddings().weight.copy_(-(torch.arange(24.0).reshape(6, 4) ** 2))
    add_embeddings(model, _extension())
    # Rows 0 and 3 are 0 1 2 3 and 12 13 14 15; the mean of all rows begins with (0 + 4 + … + 20) / 6 = 10.
    expected = torch.tensor([[6.0, 7, 8, 9], [8, 9, 10, 11], [10, 11, 12, 13]])
    rows = model.get_input_embeddings().weight
    assert torch.equal(rows[:6], torch.arange(24.0).reshape(6, 4)) and torch.equal(rows[6:], expected)
    head = model.get_output_embeddings().weight
    assert (head is rows) == tied
    if not tied:
        # (0 + 144) / 2 and (0 + 144 + 144) / 3 in the first column.
        assert torch.equal(head[6:8, 0], torch.tensor([-72.0, -96.0]))
    assert model.config.vocab_size == 9
    assert model(input_ids=torch.tensor([[0, 8]])).logits.shape == (1, 2, 9)


def test_old_logits_keep_their_values():
    model = _llama()
    ids = torch.tensor([[1, 2, 5]])
    before = model(input_ids=ids).logits
    add_embeddings(model, _extension())
    assert torch.allclose(model(input_ids=ids).logits[..., :6], before, atol=1e-6)


def test_other_starts():
    mean, drawn, again = _llama(), _llama(), _llama()
    old = mean.get_input_embeddings().weight.detach().clone()
    add_embeddings(mean, _extension(), start="mean")
    assert torch.allclose(mean.get_input_embeddings().weight[6:], old.mean(0).expand(3, 4))
    for model in (drawn, again):
        add_embeddings(model, _extension(), start="random", seed=7)
    rows = drawn.get_input_embeddings().weight[6:]
    assert torch.equal(rows, again.get_input_embeddings().weight[6:])
    assert 0 < rows.abs().max() < 0.1  # initializer_range is 0.02
    assert len(rows.unique(dim=0)) == 3


def test_rows_that_pad_the_matrix_are_used_before_it_grows():
    model = _llama(rows=64)
    add_embeddings(model, _extension())
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == 64 and torch.allclose(rows[6], (rows[0] + rows[3]) / 2)
    # The padding rows are no part of the mean of all.
    assert torch.allclose(rows[8], rows[:6].mean(0))


def test_half_precision_is_averaged_in_float32():
    model = _llama(dtype=torch.bfloat16)
    old = model.get_input_embeddings().weight.detach().float()
    add_embeddings(model, _extension())
    rows = model.get_input_embeddings().weight
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows[7], ((old[0] + old[3] + old[3]) / 3).bfloat16())


def test_the_bias_of_a_head_grows_too():
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=6, hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
        )
    )
    with torch.no_grad():
        model.get_output_embeddings().bias.copy_(torch.arange(6.0))
    add_embeddings(model, _extension())
    assert torch.equal(model.get_output_embeddings().bias[6:], torch.tensor([1.5, 2.0, 2.5]))
    assert model(input_ids=torch.tensor([[0, 7]])).logits.shape == (1, 2, 9)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """(folder, tokenizer) of a tiny model with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    options = TokenizerOptions(vocab_size=400)
    tokenizer = train_tokenizer(lambda: ENGLISH, options, show_progress=False)
    tokenizer.save_pretrained(folder)
    _llama(rows=400).save_pretrained(folder)
    return folder, tokenizer


def _extended(tokenizer):
    options = ExtendOptions(extend="base", new_tokens=40)
    return extend_tokenizer(tokenizer, lambda: CHINESE, options, show_progress=False)


def test_tokenizer_and_model_are_saved_together_and_load_as_usual(base, tmp_path):
    folder, tokenizer = base
    assert has_weights(str(folder))
    model = load_model_to_extend(str(folder), tokenizer)
    extension = _extended(tokenizer)
    add_embeddings(model, extension)
    save_extended(tmp_path, extension, model)
    loaded, again = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_input_embeddings().weight.shape[0] == len(again) == 440
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    ids = again(CHINESE[0], return_tensors="pt").input_ids
    assert ids.max() >= 400
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert new_token_ids(tmp_path) == list(range(400, 440))


@pytest.mark.parametrize("tied", [True, False])
def test_peft_trains_the_new_rows_alone_saves_and_merges_them(tied, tmp_path):
    """``trainable_token_indices`` beside LoRA: the way to train what was added."""
    from peft import LoraConfig, PeftModel, get_peft_model

    model = _llama(rows=12, tied=tied)
    add_embeddings(model, _extension(first_id=12))
    model.save_pretrained(tmp_path / "base")
    start = model.get_input_embeddings().weight.detach().clone()
    head = model.get_output_embeddings().weight.detach().clone()
    new = [12, 13, 14]
    # An untied head has rows of its own, which have to be named.
    indices = new if tied else {"embed_tokens": new, "lm_head": new}
    adapted = get_peft_model(
        model,
        LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=indices, task_type="CAUSAL_LM"),
    )
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    ids = torch.tensor([[1, 12, 2, 13, 14, 3]])
    for _ in range(3):
        optimizer.zero_grad()
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    trained = adapted(input_ids=ids).logits
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    )
    assert torch.allclose(again(input_ids=ids).logits, trained, atol=1e-6)
    merged = again.merge_and_unload()
    assert torch.allclose(merged(input_ids=ids).logits, trained, atol=1e-5)
    rows, output = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert torch.equal(rows[:12], start[:12]) and (rows[12:] != start[12:]).any(dim=1).all()
    assert (rows.data_ptr() == output.data_ptr()) == tied
    if not tied:
        assert torch.equal(output[:12], head[:12]) and (output[12:] != head[12:]).any(dim=1).all()


def test_what_cannot_be_extended_is_refused(base, tmp_path):
    folder, tokenizer = base
    with pytest.raises(UserError, match=r"extend: the folder '.*nowhere' does not exist"):
        load_model_to_extend(str(tmp_path / "nowhere"), tokenizer)
    _llama(rows=30).save_pretrained(tmp_path / "small")
    with pytest.raises(UserError, match="has 400 tokens, and the model has embeddings for 30"):
        load_model_to_extend(str(tmp_path / "small"), tokenizer)
    tokenizer.save_pretrained(tmp_path / "only")
    assert not has_weights(str(tmp_path / "only"))
    with pytest.raises(UserError, match="no model could be loaded"):
        load_model_to_extend(str(tmp_path / "only"), tokenizer)
    with pytest.raises(UserError, match=r"new_tokens\.json: cannot be read"):
        new_token_ids(folder)
    (tmp_path / "new_tokens.json").write_text(json.dumps({"first_id": "x"}))
    with pytest.raises(UserError, match="expected first_id and count"):
        new_token_ids(tmp_path)
