"""Tables over a vocabulary: special tokens, sentence ends, and tokens that a tokenizer lacks."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
    byte_level_bpe_tokenizer,
    end_marked_bpe_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)

from hf_align.errors import UserError
from hf_align.pretraining.collators.vocabulary import Vocabulary

KINDS = {
    "##": wordpiece_tokenizer,
    "Ġ": byte_level_bpe_tokenizer,
    "▁": unigram_tokenizer,
    "</w>": end_marked_bpe_tokenizer,
}


def test_special_tokens_are_known_and_the_unknown_token_is_text():
    tokenizer = wordpiece_tokenizer()
    special = Vocabulary(tokenizer).special
    assert np.flatnonzero(special).tolist() == [0, 2, 3, 4]
    tokenizer = unigram_tokenizer()
    sentinels = Vocabulary(tokenizer).sentinels
    assert tokenizer.convert_ids_to_tokens(sentinels.tolist()) == [f"<extra_id_{i}>" for i in range(40)]
    assert Vocabulary(tokenizer).special[sentinels].all()


@pytest.mark.parametrize("role", ["eos", "bos", "pad"])
def test_an_unknown_token_that_has_another_role_as_well_is_special(role):
    """GPT-2, GPT-NeoX, OPT and SmolLM2 have one token for all of them."""
    tokenizer = byte_level_bpe_tokenizer()
    tokenizer.add_special_tokens({f"{role}_token": "<both>", "unk_token": "<both>"})
    id = tokenizer.unk_token_id
    assert id == getattr(tokenizer, f"{role}_token_id") and Vocabulary(tokenizer).special[id]


@pytest.mark.parametrize(
    ("name", "tokenizer", "words"),
    [
        ("mask_id", unigram_tokenizer, ["no mask token", "add_special_tokens({'mask_token'"]),
        ("pad_id", end_marked_bpe_tokenizer, ["no pad token", "'pad_token'"]),
        ("eos_id", wordpiece_tokenizer, ["no eos token", "'eos_token'"]),
        ("cls_id", unigram_tokenizer, ["no cls token"]),
        ("sep_id", unigram_tokenizer, ["no sep token"]),
        ("sentinels", wordpiece_tokenizer, ["<extra_id_0>", "add_tokens"]),
    ],
)
def test_a_missing_token_is_named_with_what_to_do(name, tokenizer, words):
    with pytest.raises(UserError) as error:
        getattr(Vocabulary(tokenizer()), name)
    assert all(word in str(error.value) for word in words)


def test_ids_of_another_tokenizer_are_refused():
    with pytest.raises(UserError, match="token id 5000, but the tokenizer has"):
        Vocabulary(wordpiece_tokenizer()).check_ids(np.array([3, 5000]))
    with pytest.raises(UserError, match="token id -100"):
        Vocabulary(wordpiece_tokenizer()).check_ids(np.array([3, -100]))


@pytest.mark.parametrize("kind", ["##", "Ġ", "▁"])
def test_tokens_that_end_a_sentence(kind):
    tokenizer = KINDS[kind]()
    ends = Vocabulary(tokenizer).ends_sentence
    ids = np.array(tokenizer("My dog is hairy. Is he not? Yes", add_special_tokens=False)["input_ids"])
    texts = [tokenizer.decode([id]).strip() for id in ids[ends[ids]]]
    assert [text[-1] for text in texts] == [".", "?"]
