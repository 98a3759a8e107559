"""Special tokens of the families: their places, their roles, and what is put around a text."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from hf_align.errors import UserError
from hf_align.tokenization.recipe import TokenizerOptions
from hf_align.tokenization.special_tokens import FAMILIES, put_around, special_tokens, template_tokens


def found(**options):
    template = options.pop("template", None)
    return special_tokens(TokenizerOptions(**options), template)


def test_places_in_the_vocabulary() -> None:
    assert found(tokenizer_type="wordpiece").first == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    bart = found(tokenizer_type="bpe", special_tokens="bart")
    assert bart.first == ("<s>", "<pad>", "</s>", "<unk>") and bart.last == ("<mask>",)
    # T5 counts its sentinels from the end: <extra_id_0> is the last token.
    t5 = found(tokenizer_type="unigram", extra_ids=3)
    assert t5.last == ("<extra_id_2>", "<extra_id_1>", "<extra_id_0>")
    assert t5.more == ("<extra_id_0>", "<extra_id_1>", "<extra_id_2>") and len(t5) == 6


def test_bytes_need_no_unknown_token() -> None:
    assert found().unknown is None and "unk_token" not in found().roles
    assert found(tokenizer_type="bpe").unknown == "<|unk|>" and "<|unk|>" in found(tokenizer_type="bpe").first


def test_tokens_of_a_template_and_of_the_recipe_once_each() -> None:
    template = "<|im_start|>{{ x }}<|im_end|>\n<|im_start|>"
    assert template_tokens(template) == ["<|im_start|>", "<|im_end|>"] and template_tokens(None) == []
    made = found(template=template, additional_special_tokens=["<a>", "<|im_end|>", "<|endoftext|>"])
    assert made.more == ("<|im_start|>", "<|im_end|>", "<a>")
    assert made.first == ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", "<a>")
    with pytest.raises(UserError, match="<extra_id_1> is one of the sentinels"):
        found(tokenizer_type="unigram", additional_special_tokens="<extra_id_1>")


@pytest.mark.parametrize(
    ("family", "single", "pair"),
    [
        ("bert", ["[CLS]", "a", "[SEP]"], ["[CLS]", "a", "[SEP]", "b", "[SEP]"]),
        ("bart", ["<s>", "a", "</s>"], ["<s>", "a", "</s>", "</s>", "b", "</s>"]),
        ("t5", ["a", "</s>"], ["a", "</s>", "b", "</s>"]),
        ("gpt", ["a"], ["a", "b"]),
    ],
)
def test_what_is_put_around(family: str, single: list[str], pair: list[str]) -> None:
    chosen = FAMILIES[family]
    words = [*chosen.first, *chosen.last, "a", "b"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, chosen.unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    put_around(tokenizer, chosen)
    assert tokenizer.encode("a").tokens == single and tokenizer.encode("a", "b").tokens == pair
    assert tokenizer.encode("a", "b").type_ids[-1] == 1 or family in ("bart", "t5")
