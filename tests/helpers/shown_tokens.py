"""Tokenizers and texts whose tokens are shown."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.types import TokenizedRow


def byte_level() -> PreTrainedTokenizerFast:
    """One token a byte, and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentence_piece() -> PreTrainedTokenizerFast:
    """A few pieces with a leading space mark, bytes for everything else."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁hi", "▁you", "h", "i", "!"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BYTES = byte_level()


def make_row(text: str, *, trained: str = "", tokenizer=BYTES) -> TokenizedRow:
    """A row of ``text`` in which the bytes of the first ``trained`` inside it are targets."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    mask = np.zeros(len(ids), dtype=bool)
    if trained:
        start = len(text[: text.index(trained)].encode())
        mask[start : start + len(trained.encode())] = True
    return TokenizedRow(np.array(ids, dtype=np.int32), mask, source="a.jsonl:1")


class Marks(HTMLParser):
    """Text inside and outside of <mark>, and the number of tokens that the marks stand for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.marked, self.plain, self.tokens = False, "", "", 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "mark":
            self.inside = True
            self.tokens += int(dict(attrs).get("data-tokens", 1))

    def handle_endtag(self, tag):
        if tag == "mark":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.marked += data
        else:
            self.plain += data
