"""Pre-training objectives: token sequences in, batches with noise and targets out.

A collator is called with a list of examples and returns a dictionary of tensors, so it goes into any
DataLoader (``collate_fn``) and any transformers Trainer (``data_collator``). The noise of an example depends
on (seed, epoch, index) alone, whatever the batch, the worker process or the rank; ``base`` says how the epoch
gets there.
"""

from hf_align.pretraining.collators.base import Collator
from hf_align.pretraining.collators.causal import CausalCollator, token_blocks
from hf_align.pretraining.collators.indexed import IndexedDataset
from hf_align.pretraining.collators.mlm import MaskedLMCollator
from hf_align.pretraining.collators.nsp import SentencePairCollator, sentence_pairs
from hf_align.pretraining.collators.prefix_lm import PrefixLMCollator
from hf_align.pretraining.collators.span_corruption import SpanCorruptionCollator, span_corruption_lengths
from hf_align.pretraining.collators.span_mlm import SpanMaskingCollator
from hf_align.pretraining.collators.table import OBJECTIVES, Objective, make_collator, objective
from hf_align.pretraining.collators.text_infilling import TextInfillingCollator
from hf_align.pretraining.collators.words import split_sentences

__all__ = [
    "OBJECTIVES",
    "CausalCollator",
    "Collator",
    "IndexedDataset",
    "MaskedLMCollator",
    "Objective",
    "PrefixLMCollator",
    "SentencePairCollator",
    "SpanCorruptionCollator",
    "SpanMaskingCollator",
    "TextInfillingCollator",
    "make_collator",
    "objective",
    "sentence_pairs",
    "span_corruption_lengths",
    "split_sentences",
    "token_blocks",
]
