"""The pad token of a reward model: never one that can end a sequence, and saved with everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from hf_align.errors import UserError
from hf_align.modeling.pad_token import NEW_TOKEN, choose_pad_token

EOS, BOS, UNK = "<|end|>", "<|begin|>", "<unk>"


def tokenizer(special: Sequence[str] = (), plain: Sequence[str] = (), **options: Any) -> Any:
    words = [EOS, BOS, UNK, "a", "b", *plain]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK)
        ),
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNK,
        **options,
    )
    made.add_special_tokens({"additional_special_tokens": list(special)} if special else {})
    return made


def model(rows: int, model_type: str = "llama") -> Any:
    config = AutoConfig.for_model(
        model_type,
        vocab_size=rows,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # A pad token of its own is kept, whatever it is called.
        ({"pad_token": "a"}, "a"),
        ({"pad_token": "a", "special": ["<|pad|>"]}, "a"),
        # One that ends or begins a sequence is not.
        ({"pad_token": EOS, "special": ["<|pad|>"]}, "<|pad|>"),
        ({"pad_token": UNK, "special": ["<|pad|>"]}, "<|pad|>"),
        ({"pad_token": "a", "chat_template": "{{ messages }}a", "special": ["<|pad|>"]}, "<|pad|>"),
        # Made for padding, also as an ordinary token.
        ({"special": ["<|finetune_right_pad_id|>"]}, "<|finetune_right_pad_id|>"),
        ({"plain": ["[PAD]"]}, "[PAD]"),
        ({"special": ["<｜▁pad▁｜>"]}, "<｜▁pad▁｜>"),
        ({"special": ["<|fim_prefix|>", "<fim_pad>"]}, "<fim_pad>"),
        # Images have a padding of their own.
        ({"special": ["<|image_pad|>", "<|reserved_special_token_0|>"]}, "<|reserved_special_token_0|>"),
        # Reserved before other special tokens.
        ({"special": ["<repo_name>", "<unused7>"]}, "<unused7>"),
        ({"special": ["<|placeholder1|>"]}, "<|placeholder1|>"),
        # Special tokens that the template does not write.
        ({"special": ["<|turn|>", "<repo_name>"], "chat_template": "<|turn|>"}, "<repo_name>"),
        # Words of the language never.
        ({"plain": ["pad", "reserved1"]}, NEW_TOKEN),
        ({}, NEW_TOKEN),
    ],
)
def test_which_token_is_chosen(options: dict[str, Any], expected: str) -> None:
    given = dict(options)
    made = tokenizer(given.pop("special", ()), given.pop("plain", ()), **given)
    network = model(len(made))
    rows = len(made)
    added = expected not in made.get_vocab()
    pad_id = choose_pad_token(made, network)
    assert made.pad_token == expected
    assert pad_id == made.pad_token_id == network.config.pad_token_id == made.convert_tokens_to_ids(expected)
    assert made.eos_token == EOS
    assert added == (expected == NEW_TOKEN and "special" not in options)
    assert len(made) == network.get_input_embeddings().weight.shape[0] == rows + added
    assert network.config.vocab_size == rows + added
    assert choose_pad_token(made, network) == pad_id, "choosing again changes nothing"


def test_a_new_token_takes_a_spare_row() -> None:
    made = tokenizer()
    network = model(len(made) + 3)
    before = network.get_input_embeddings().weight.detach().clone()
    assert choose_pad_token(made, network) == 5
    assert torch.equal(network.get_input_embeddings().weight, before)


def test_a_token_without_an_embedding_is_not_chosen() -> None:
    """A tokenizer that has grown without its model is a mistake to report, not to pad with."""
    made = tokenizer(["<|pad|>"])
    with pytest.raises(UserError, match="embeddings for 5"):
        choose_pad_token(made, model(5))


def test_the_choice_survives_saving(tmp_path) -> None:
    from transformers import AutoTokenizer

    made = tokenizer()
    network = model(len(made))
    pad_id = choose_pad_token(made, network)
    made.save_pretrained(tmp_path)
    network.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token_id == pad_id
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.pad_token_id == pad_id
