"""The pre-training objectives by name: which collator, for which kind of model, on which examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from hf_align.errors import UserError, did_you_mean
from hf_align.pretraining.collators.base import Collator
from hf_align.pretraining.collators.causal import CausalCollator
from hf_align.pretraining.collators.mlm import MaskedLMCollator
from hf_align.pretraining.collators.nsp import SentencePairCollator
from hf_align.pretraining.collators.prefix_lm import PrefixLMCollator
from hf_align.pretraining.collators.span_corruption import SpanCorruptionCollator
from hf_align.pretraining.collators.span_mlm import SpanMaskingCollator
from hf_align.pretraining.collators.text_infilling import TextInfillingCollator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Architecture = Literal["encoder", "encoder_decoder", "decoder"]
Examples = Literal["with_specials", "without_specials", "pairs"]


@dataclass(frozen=True)
class Objective:
    """One pre-training objective.

    ``architecture``: the model it trains. ``examples``: what the collator is given: token sequences with the
    tokenizer's special tokens, without them, or pairs of segments from ``sentence_pairs``. ``options``: those
    of the collator that make it this objective; they cannot be given again. ``source``: the paper.
    """

    collator: type[Collator]
    architecture: Architecture
    examples: Examples
    title: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def option_names(self) -> list[str]:
        """What :func:`make_collator` accepts beside the tokenizer."""
        return [
            item.name
            for item in fields(self.collator)
            if item.init and item.name != "tokenizer" and item.name not in self.options
        ]


OBJECTIVES: dict[str, Objective] = {
    "mlm": Objective(
        MaskedLMCollator, "encoder", "with_specials", "masked language modelling", "BERT, RoBERTa"
    ),
    "wwm": Objective(
        MaskedLMCollator,
        "encoder",
        "with_specials",
        "whole-word masking",
        "BERT",
        {"whole_words": True},
    ),
    "mlm_nsp": Objective(
        SentencePairCollator,
        "encoder",
        "pairs",
        "masked language modelling and next-sentence prediction",
        "BERT",
        {"kind": "nsp"},
    ),
    "sop": Objective(
        SentencePairCollator,
        "encoder",
        "pairs",
        "masked language modelling and sentence-order prediction",
        "ALBERT",
        {"kind": "sop"},
    ),
    "span_mlm": Objective(
        SpanMaskingCollator,
        "encoder",
        "with_specials",
        "span masking with the span-boundary objective",
        "SpanBERT",
    ),
    "text_infilling": Objective(
        TextInfillingCollator, "encoder_decoder", "with_specials", "denoising by text infilling", "BART"
    ),
    "span_corruption": Objective(
        SpanCorruptionCollator, "encoder_decoder", "without_specials", "span corruption", "T5"
    ),
    "prefix_lm": Objective(
        PrefixLMCollator,
        "encoder_decoder",
        "without_specials",
        "prefix language modelling, encoder-decoder",
        "T5",
        {"form": "encoder_decoder"},
    ),
    "decoder_prefix_lm": Objective(
        PrefixLMCollator,
        "decoder",
        "without_specials",
        "prefix language modelling, decoder only",
        "T5",
        {"form": "decoder"},
    ),
    "causal": Objective(CausalCollator, "decoder", "without_specials", "next-token prediction", "GPT"),
}


def objective(name: str) -> Objective:
    """The objective of this name. Raises UserError where there is none."""
    if name not in OBJECTIVES:
        raise UserError(
            f"objective: found '{name}', expected one of {', '.join(OBJECTIVES)}."
            f"{did_you_mean(name, OBJECTIVES)}"
        )
    return OBJECTIVES[name]


def make_collator(name: str, tokenizer: PreTrainedTokenizerBase, **options: Any) -> Collator:
    """The collator of an objective.

    ``options``: its dataclass fields. Raises UserError for an unknown objective or option, an option out of
    range, and a tokenizer that lacks a token which the objective needs.
    """
    chosen = objective(name)
    valid = chosen.option_names()
    for option in options:
        if option not in valid:
            raise UserError(
                f"objective {name} has no option '{option}'; it has {', '.join(sorted(valid))}."
                f"{did_you_mean(option, valid)}"
            )
    return chosen.collator(tokenizer, **options, **chosen.options)
