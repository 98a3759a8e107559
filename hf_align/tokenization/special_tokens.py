"""The special tokens of model families: their names, their ids, and what is put around a text or a pair.

Ids are those of the families' own vocabularies wherever these do not depend on the size: [PAD] of BERT is 0,
<s>, <pad>, </s> and <unk> of RoBERTa and BART are 0 to 3 and <mask> is last, the sentinels of T5 end the
vocabulary with <extra_id_0> as the last token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hf_align.tokenization.recipe import TokenizerOptions

_IN_TEMPLATES = re.compile(r"<\|\w+\|>")


@dataclass(frozen=True)
class Family:
    """``first`` and ``last``: tokens at the start and the end of the vocabulary. ``roles``: arguments of a
    transformers tokenizer. ``single`` and ``pair``: templates as the tokenizers library writes them, where
    ``:1`` is the segment id; None where nothing is put around a text. ``unknown``: the token for what the
    vocabulary lacks. ``segments``: whether models of the family read segment ids."""

    first: tuple[str, ...]
    roles: dict[str, str]
    unknown: str
    single: str | None = None
    pair: str | None = None
    last: tuple[str, ...] = ()
    padding_side: str = "right"
    segments: bool = False


_BART = Family(
    first=("<s>", "<pad>", "</s>", "<unk>"),
    last=("<mask>",),
    roles={
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    },
    unknown="<unk>",
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)

FAMILIES: dict[str, Family] = {
    "bert": Family(
        first=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        roles={
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        unknown="[UNK]",
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        segments=True,
    ),
    "roberta": _BART,
    "bart": _BART,
    # Padding has a token of its own: where it shares one with the end, the end is easily masked away.
    "gpt": Family(
        first=("<|endoftext|>", "<|pad|>"),
        roles={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"},
        unknown="<|unk|>",
        padding_side="left",
    ),
    "t5": Family(
        first=("<pad>", "</s>", "<unk>"),
        roles={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        unknown="<unk>",
        single="$A </s>",
        pair="$A </s> $B </s>",
    ),
}


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of one tokenizer. ``more``: those that have no role of their own; they are also in
    ``first`` or ``last``. ``unknown`` is None for byte-level models, which know every text."""

    family: Family
    first: tuple[str, ...]
    last: tuple[str, ...]
    more: tuple[str, ...]
    unknown: str | None

    def __len__(self) -> int:
        return len(self.first) + len(self.last)

    @property
    def roles(self) -> dict[str, Any]:
        """Arguments of a transformers tokenizer."""
        unknown = {"unk_token": self.unknown} if self.unknown is not None else {}
        return {**self.family.roles, **unknown, "extra_special_tokens": list(self.more)}


def special_tokens(options: TokenizerOptions, template: str | None) -> SpecialTokens:
    """The special tokens that a recipe asks for; ``template``: the text of its chat template."""
    family = FAMILIES[options.family]
    bytes_only = options.tokenizer_type == "byte_level_bpe"
    unknown = family.unknown if family.unknown in family.first or not bytes_only else None
    first = [*family.first]
    if unknown is not None and unknown not in first:
        first.append(unknown)
    more = [
        token
        for token in dict.fromkeys([*template_tokens(template), *options.additional_special_tokens])
        if token not in first and token not in family.last
    ]
    extra = [f"<extra_id_{n}>" for n in reversed(range(options.extra_ids))] if options.family == "t5" else []
    clash = [token for token in more if token in extra]
    if clash:
        raise UserError(f"additional_special_tokens: {clash[0]} is one of the sentinels already (extra_ids).")
    return SpecialTokens(family, (*first, *more), (*extra, *family.last), (*more, *reversed(extra)), unknown)


def template_tokens(template: str | None) -> list[str]:
    """The tokens of the form ``<|name|>`` that a chat template writes, in order."""
    return list(dict.fromkeys(_IN_TEMPLATES.findall(template or "")))


def put_around(tokenizer: Tokenizer, family: Family) -> None:
    """Have ``tokenizer`` put the family's tokens around a text or a pair, behind what it does already."""
    from tokenizers import processors

    if family.single is None or family.pair is None:
        return
    used = [token for token in (*family.first, *family.last) if token in family.pair]
    template = processors.TemplateProcessing(
        single=family.single,
        pair=family.pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in used],
    )
    before = tokenizer.post_processor
    tokenizer.post_processor = template if before is None else processors.Sequence([before, template])
