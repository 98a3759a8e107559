"""What a collator asks about token ids: which are special, which begin a word, which end a sentence.

Each answer is a table over the vocabulary, made once for a tokenizer, so that a batch costs one look-up. The
tables know ids only: where a word begins depends on the token and on the one before it, not on the text.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Integers
from hf_align.pretraining.collators.words import ends_sentence, spelled_out, word_borders

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Flags = npt.NDArray[np.bool_]

_PURPOSES = {
    "mask_token": ("stands for hidden tokens", "<mask>"),
    "pad_token": ("fills up shorter rows", "<pad>"),
    "eos_token": ("ends a sequence", "</s>"),
    "cls_token": ("begins a pair of segments", "[CLS]"),
    "sep_token": ("stands after each segment", "[SEP]"),
}
_ROLES = ("bos", "eos", "pad", "cls", "sep", "mask")
_SENTINEL = re.compile(r"<extra_id_(\d+)>")


class Vocabulary:
    """Ids of special tokens, and tables over the V tokens of ``tokenizer``.

    An id that the tokenizer lacks raises UserError when it is asked for, with the token to add.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        special |= {*tokenizer.all_special_ids}
        # GPT-2 and its kin end texts with the token that would stand for unknown ones.
        roles = [getattr(tokenizer, f"{role}_token_id") for role in _ROLES]
        if tokenizer.unk_token_id not in roles:
            special -= {tokenizer.unk_token_id}
        self.special: Flags = np.zeros(self.size, dtype=bool)
        """(V,) tokens that stand for no text and are never hidden. The unknown token stands for some,
        unless it is one of the others as well."""
        self.special[[id for id in special if id < self.size]] = True

    def check_ids(self, ids: Integers) -> None:
        """Raise UserError where ``ids`` were not made with this tokenizer."""
        if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < self.size):
            wrong = int(ids.max()) if int(ids.max()) >= self.size else int(ids.min())
            raise UserError(
                f"a row has the token id {wrong}, but the tokenizer has {self.size} tokens; "
                "encode the rows with the tokenizer that the collator was given"
            )

    @cached_property
    def mask_id(self) -> int:
        return self._id("mask_token")

    @cached_property
    def pad_id(self) -> int:
        return self._id("pad_token")

    @cached_property
    def eos_id(self) -> int:
        return self._id("eos_token")

    @cached_property
    def cls_id(self) -> int:
        return self._id("cls_token")

    @cached_property
    def sep_id(self) -> int:
        return self._id("sep_token")

    @cached_property
    def sentinels(self) -> Integers:
        """(S,) ids of ``<extra_id_0>``, ``<extra_id_1>``, … in the order of their numbers, which have no
        gap.
        """
        numbered = {
            int(found[1]): id
            for token, id in self.tokenizer.get_vocab().items()
            if (found := _SENTINEL.fullmatch(token))
        }
        ids: list[int] = []
        while len(ids) in numbered:
            ids.append(numbered[len(ids)])
        if not ids:
            raise UserError(
                "the tokenizer has no sentinel tokens <extra_id_0>, <extra_id_1>, …, which stand for the "
                "spans that span corruption hides. Train it with them, or call tokenizer.add_tokens("
                "[f'<extra_id_{i}>' for i in range(100)], special_tokens=True) and resize the model's "
                "embeddings"
            )
        return np.array(ids, dtype=np.int64)

    @cached_property
    def tokens(self) -> list[str | None]:
        """(V,) the tokens as the vocabulary spells them; None for an id that is not in use."""
        return list(self.tokenizer.convert_ids_to_tokens(list(range(self.size))))

    @cached_property
    def _borders(self) -> tuple[Flags, Flags]:
        return word_borders(self.tokens, self.special)

    def word_starts(self, ids: Integers) -> Flags:
        """True where a token begins a word, for ids (…, T) in reading order along the last axis.

        The first token after a special one, and of a row, begins a word whatever this says: the caller knows
        where rows begin. Raises UserError where the vocabulary does not mark words.
        """
        begins, ends = self._borders
        starts = begins[ids]
        starts[..., 1:] |= ends[ids[..., :-1]]
        return starts

    @cached_property
    def ends_sentence(self) -> Flags:
        """(V,) tokens that end with a full stop, a question or exclamation mark, or a line break."""
        table = np.zeros(self.size, dtype=bool)
        for id, text in enumerate(spelled_out(self.tokens)):
            table[id] = not self.special[id] and ends_sentence(text)
        return table

    def _id(self, name: str) -> int:
        id = getattr(self.tokenizer, f"{name}_id")
        if id is None:
            purpose, usual = _PURPOSES[name]
            raise UserError(
                f"the tokenizer has no {name.replace('_', ' ')}, which {purpose}. Name one: "
                f"tokenizer.add_special_tokens({{'{name}': '{usual}'}}), then resize the model's embeddings "
                "where that adds a token"
            )
        return int(id)
