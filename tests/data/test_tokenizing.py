"""The one call of the tokenizer: offsets that include white space, the same ids, nothing cut."""

from __future__ import annotations

import numpy as np
from helpers.tiny_checkpoint import tiny_tokenizer
from tokenizers import processors

from hf_align.data.tokenizing import tokenize, with_whole_offsets


def trimming():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def test_offsets_cover_every_character_and_ids_stay() -> None:
    text = "Please send  twelve lamps."
    tokenizer = trimming()
    whole = with_whole_offsets(tokenizer)
    (before,), (after,) = (tokenize(each, [text], add_special_tokens=True) for each in (tokenizer, whole))
    np.testing.assert_array_equal(before.ids, after.ids)
    assert "".join(text[a:b] for a, b in after.offsets) == text
    assert "".join(text[a:b] for a, b in before.offsets) == text.replace(" ", "")
    # The tokenizer that was given keeps its setting.
    (again,) = tokenize(tokenizer, [text], add_special_tokens=True)
    np.testing.assert_array_equal(again.offsets, before.offsets)


def test_a_tokenizer_that_trims_nothing_is_returned_as_it_is() -> None:
    tokenizer = tiny_tokenizer()
    assert with_whole_offsets(tokenizer) is tokenizer


def test_nothing_is_cut_or_padded() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 4
    long, empty = tokenize(tokenizer, ["lamps " * 50, ""], add_special_tokens=False)
    assert len(long.ids) > 50 and not long.added.any()
    assert empty.ids.shape == (0,) and empty.offsets.shape == (0, 2)
