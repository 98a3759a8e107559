"""Texts with a label to rows, tokenised as by the tokenizer alone, so whoever loads the model gets the same.

Which number a label has is known when all rows are read: ``classify.data`` settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_align.data.conversion.formats import LABELLED_FORMATS
from hf_align.data.encoding import RowEncoder
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import LabelledRow, LabelledText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class LabelledEncoder(RowEncoder):
    """Texts, or pairs of texts, to rows without the number of their label.

    ``separator`` stands between the texts of a pair where the tokenizer itself puts nothing there.
    """

    tokenizer: PreTrainedTokenizerBase
    separator: str = "\n\n"

    formats = LABELLED_FORMATS
    rows = LabelledRow

    def encode(self, examples: Sequence[LabelledText]) -> list[LabelledRow | MalformedRow]:
        rows = self._rows(examples) if examples else []
        return [row if len(row) else MalformedRow("the text has no token") for row in rows]

    def cut(self, row: LabelledRow, example: LabelledText, length: int) -> LabelledRow:
        # By the tokenizer, which keeps the tokens that it puts around a text.
        return self._rows([example], truncation=True, max_length=length)[0]

    def identity(self) -> list[Any]:
        return [*super().identity(), self.separator]

    def _rows(self, examples: Sequence[LabelledText], **options: Any) -> list[LabelledRow]:
        pairs: dict[str, Any] = {}
        first = [example.text for example in examples]
        if examples[0].pair is not None:
            second = [example.pair for example in examples]
            if separates_pairs(self.tokenizer):
                pairs = {"text_pair": second}
            else:
                first = [f"{a}{self.separator}{b}" for a, b in zip(first, second, strict=True)]
        found = self.tokenizer(first, **pairs, verbose=False, **options)
        segments = found.get("token_type_ids") or [None] * len(first)
        return [
            LabelledRow(
                np.asarray(ids, dtype=np.int32),
                np.zeros(len(ids), dtype=bool),
                example.source,
                segment_ids=None if kinds is None else np.asarray(kinds, dtype=np.int32),
            )
            for ids, kinds, example in zip(found["input_ids"], segments, examples, strict=True)
        ]


def separates_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts something between the two texts of a pair."""
    alone, pair = (tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    return int(pair) > int(alone)
