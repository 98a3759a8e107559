"""Small tokenizers of the four kinds that pre-training meets, with the special tokens its objectives need."""

from __future__ import annotations

import copy
import functools

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "Thank you for inviting me to your party last week.",
    "My dog is hairy. His name is Rex! Is he not a good dog?",
    "An American football game is played in the stadium by eleven players.",
    "Unbelievable: the extraordinarily long words are tokenised into several pieces (of course).",
    "Rivers run to the sea; mountains stand where they stood, she said.",
]
CHINESE = "今天天气很好,我们去公园吧。你喜欢音乐吗?"
SENTINELS = [f"<extra_id_{i}>" for i in range(40)]


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """As BERT's: lower case, ``##`` before what continues a word, ``[CLS] … [SEP]``."""
    return copy.deepcopy(_wordpiece())


@functools.cache
def _wordpiece() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=130, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES, CHINESE], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in zip(names, special, strict=True)},
    )


def byte_level_bpe_tokenizer() -> PreTrainedTokenizerFast:
    """As BART's and RoBERTa's: ``Ġ`` before what begins a word, ``<s> … </s>``."""
    return copy.deepcopy(_byte_level_bpe())


@functools.cache
def _byte_level_bpe() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, CHINESE], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """As T5's: ``▁`` before what begins a word, EOS at the end, sentinels with the highest ids first."""
    return copy.deepcopy(_unigram())


@functools.cache
def _unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, CHINESE], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens(SENTINELS[::-1], special_tokens=True)
    return fast


def end_marked_bpe_tokenizer() -> PreTrainedTokenizerFast:
    """BPE from characters, ``</w>`` behind what ends a word, as in GPT-1; no mask, no pad token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def unmarked_tokenizer() -> PreTrainedTokenizerFast:
    """Characters between blanks, with nothing that shows where words begin."""
    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0, "dog": 1, "<pad>": 2, "<mask>": 3}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>"
    )


def random_rows(
    tokenizer: PreTrainedTokenizerFast, lengths: list[int], *, seed: int = 0, specials: bool = True
) -> list[list[int]]:
    """Rows of random ordinary tokens, with the tokenizer's first and last special token around them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    ordinary = [id for id in range(len(tokenizer)) if id not in set(tokenizer.all_special_ids)]
    ordinary = [id for id in ordinary if not tokenizer.convert_ids_to_tokens(id).startswith("<extra")]
    rows = [rng.choice(ordinary, length - 2 * specials).tolist() for length in lengths]
    if not specials:
        return rows
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.eos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    return [[first, *row, last] for row in rows]


def indexed(rows: list[list[int]], epoch: int | None = None) -> list[dict[str, object]]:
    """Examples with an index, and an epoch where one is given."""
    more = {} if epoch is None else {"epoch": epoch}
    return [{"input_ids": row, "index": index, **more} for index, row in enumerate(rows)]
