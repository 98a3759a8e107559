"""Texts that tokenizers and chat templates stumble over, and where the tokens of a text stand in it."""

from __future__ import annotations

from helpers.chat_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

TOKENIZERS: dict[str, PreTrainedTokenizerFast] = {
    "byte_level": byte_level_tokenizer(),
    "byte_level_whole_offsets": byte_level_tokenizer(trim_offsets=False),
    "byte_level_sequence": byte_level_tokenizer(bos=True),
    "sentencepiece": sentencepiece_tokenizer(),
    "sentencepiece_prefixed": sentencepiece_tokenizer(prefix_every_segment=True),
}
PIECES = (
    "Hello",
    "你好,",
    "😀",
    "👨‍👩‍👧",
    " ",
    "  ",
    "\n",
    "user",
    "assistant",
    "<|im_end|>",
    "<|im_start|>user\n",
    "[INST]",
    "</s>",
    "<s>",
    "<start_of_turn>model\n",
    "### Response:\n",
    "é",
    "天气",
    "x = 2\n",
    "\t",
)
texts = (
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1, max_size=6)
    .map("".join)
    .filter(lambda text: text.strip() != "" and "think>" not in text)
)


def token_bytes(
    kind: str, tokenizer: PreTrainedTokenizerFast, ids: list[int], text: str
) -> list[tuple[int, int]]:
    """Where each token stands in the UTF-8 text, from the tokens' own spelling (not from offsets)."""
    special = set(tokenizer.all_special_tokens)
    ranges, position, content = [], 0, text.encode()
    prefixed = kind == "sentencepiece_prefixed" or (kind == "sentencepiece" and not text.startswith("<"))
    for token in tokenizer.convert_ids_to_tokens(ids):
        start = position
        if token in special:
            position += len(token.encode())
            prefix_next = kind == "sentencepiece_prefixed"
        elif kind.startswith("byte_level"):
            position += len(token)  # one character a byte
            prefix_next = False
        else:
            if token.startswith("<0x"):
                position += 1
            else:
                position += len(token.replace("▁", " ").encode()) - (token.startswith("▁") and prefixed)
            prefix_next = False
        prefixed = prefix_next
        ranges.append((start, position))
    assert position == len(content)
    return ranges
