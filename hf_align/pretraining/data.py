"""From the data part of a pre-training recipe to rows: documents are prepared as for every stage, then cut.

Reading, tokenising, caching, holding out and mixing are ``prepare``'s; this module decides what a document is
cut into for an objective, and keeps held-out rows of different data sets apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_align.data.plain import plain_text
from hf_align.data.prepare import prepare_datasets
from hf_align.data.reading.mixture import mixture_counts, mixture_indices
from hf_align.data.reading.stream import RowStream, shuffled
from hf_align.data.report import DataReport
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError
from hf_align.pretraining.blocks import BlockForm, BlockRows, special_ends, stream_blocks
from hf_align.pretraining.collators import Collator, objective, span_corruption_lengths
from hf_align.pretraining.segment_pairs import PairForm, PairRows, stream_pairs
from hf_align.pretraining.staged import StagedRows, StageRows
from hf_align.types import Example, PretrainingRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.pretraining.recipe import PretrainDataConfig

Form = BlockForm | PairForm
LONGEST_DOCUMENT = 2**31 - 1
SHOWN_TOKENS = 64
"""Tokens of a row that people are shown, at most."""


@dataclass(frozen=True)
class EvalSource:
    """One held-out data set: its name, and how many characters its documents have a token."""

    name: str
    characters_per_token: float


@dataclass(frozen=True)
class StageCut:
    """One stage of a schedule: how documents are cut and mixed, and how long it lasts.

    ``weights``: one for each training data set; 0 leaves it out. ``rows_per_step``: on all processes
    together.
    """

    steps: int
    block_length: int
    rows_per_step: int
    weights: Sequence[float]


@dataclass(frozen=True)
class PretrainingData:
    """Rows for training and evaluation; a held-out row's ``source`` numbers ``eval_sources``.

    ``eval_examples``: the held-out documents. ``fingerprint``: of the training documents and their cut, None
    for a stream.
    """

    train: BlockRows | PairRows | RowsOfStream | StagedRows
    eval: Sequence[PretrainingRow]
    eval_sources: Sequence[EvalSource]
    eval_examples: Sequence[Example]
    report: DataReport
    train_fingerprint: str | None


class RowsOfStream:
    """The training rows of one pass over a stream of documents, shuffled once more as rows."""

    def __init__(
        self, documents: RowStream, form: Form, *, buffer_size: int, seed: int, epoch: int = 0
    ) -> None:
        self.documents = documents
        self.form = form
        self.buffer_size = buffer_size
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.documents.set_epoch(epoch)

    def __iter__(self) -> Iterator[PretrainingRow]:
        # The documents come shuffled; a long one fills many blocks in a row, which the second buffer spreads.
        rows = _rows_of_stream(self.documents, self.form, self.epoch, self.buffer_size)
        return shuffled(rows, self.buffer_size, np.random.default_rng([self.seed, self.epoch, 2]))


def prepare_pretraining(
    data: PretrainDataConfig,
    tokenizer: PreTrainedTokenizerBase,
    collator: Collator,
    name: str,
    *,
    seed: int,
    stages: Sequence[StageCut] = (),
) -> PretrainingData:
    """Documents of the recipe's data sets as rows for the objective ``name`` and its ``collator``.

    ``stages``: how the documents are cut and mixed in each stage of a schedule, if there is one. The held-out
    rows are the same in all of them.

    Errors: as ``prepare_datasets``; UserError where a block has no room for text, and where pairs cannot be
    drawn.
    """
    from hf_align.config import DataConfig

    datasets = [replace(dataset, weight=1.0) for dataset in data.datasets] if stages else data.datasets
    form = make_form(name, tokenizer, collator, data, seed=seed)
    prepared = prepare_datasets(
        DataConfig(
            # Stages mix the documents themselves, from each of them once.
            datasets=datasets,
            eval_datasets=data.eval_datasets,
            eval_split_size=data.eval_split_size,
            mixture_exponent=1.0 if stages else data.mixture_exponent,
            streaming=data.streaming,
            drop_duplicates=data.drop_duplicates,
            shuffle_buffer_size=data.shuffle_buffer_size,
            dataset_num_proc=data.dataset_num_proc,
            dataset_cache=data.dataset_cache,
            dataset_cache_dir=data.dataset_cache_dir,
            max_malformed_share=data.max_malformed_share,
            max_length=LONGEST_DOCUMENT,
            train_on="all",
            # Blocks put their own separator behind a document.
            add_eos=False,
            require_end_of_turn=False,
            # A document of one token has nothing to predict by itself; there may be many.
            max_untrained_share=1.0,
        ),
        tokenizer,
        seed=seed,
    )
    held_out = prepared.eval
    sources, rows = [], []
    for number in np.unique(held_out.source_numbers()).tolist():
        chosen = np.flatnonzero(held_out.source_numbers() == number)
        documents = RowSelection(held_out.sources, held_out.indices[chosen])
        sources.append(_source(_name(number, data), documents))
        rows += list(_rows(documents, form, source=len(sources) - 1))
    train = prepared.train
    cut: Any = (
        RowsOfStream(train, form, buffer_size=data.shuffle_buffer_size, seed=seed)
        if isinstance(train, RowStream)
        else _rows(train, form)
    )
    if stages and isinstance(train, RowSelection):
        forms = [
            make_form(
                name, tokenizer, collator, replace(data, block_length=stage.block_length), seed=seed + number
            )
            for number, stage in enumerate(stages)
        ]
        rng = np.random.default_rng([seed, 3])
        cut = StagedRows(
            [
                StageRows(
                    _rows(_mixed(train, stage.weights, data.mixture_exponent, rng), own),
                    stage.steps,
                    stage.rows_per_step,
                )
                for stage, own in zip(stages, forms, strict=True)
            ],
            seed=seed,
        )
    if prepared.train_fingerprint is None:
        fingerprint = None
    else:
        fingerprint = f"{prepared.train_fingerprint} {_describe(form)}"
    return PretrainingData(cut, rows, sources, prepared.eval_examples, prepared.report, fingerprint)


def make_form(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    collator: Any,
    data: PretrainDataConfig,
    *,
    seed: int,
) -> Form:
    """How documents are cut for the objective ``name``.

    With special tokens around a block where the objective wants them; T5's block is the text whose corrupted
    inputs fill ``block_length``.
    """
    chosen = objective(name)
    head, tail = special_ends(tokenizer)
    if chosen.examples == "pairs":
        return PairForm(
            length=data.block_length,
            kind=chosen.options["kind"],
            seed=seed,
            opening=len(head),
            ends_sentence=collator.vocabulary.ends_sentence,
        )
    if chosen.examples == "with_specials":
        if not tail:
            raise UserError(
                f"objective {name}: the tokenizer in '{tokenizer.name_or_path}' puts no special token behind "
                "a text; use one made for such models (special_tokens: bert, roberta or bart)"
            )
        return BlockForm(data.block_length, head, tail, opening=head, separator=tail[0], packing=data.packing)
    if chosen.architecture == "decoder":
        # The BOS that a tokenizer puts first stays with its document.
        return BlockForm(data.block_length, separator=tokenizer.eos_token_id, packing=data.packing)
    # Room for the EOS that ends inputs and targets.
    length = data.block_length - 1
    if name == "span_corruption":
        length, _ = span_corruption_lengths(
            data.block_length,
            noise_density=collator.noise_density,
            mean_span_length=collator.mean_span_length,
        )
    return BlockForm(length, opening=head, packing=data.packing)


def _rows(documents: RowSelection, form: Form, *, source: int = 0) -> BlockRows | PairRows:
    if isinstance(form, PairForm):
        return PairRows(documents, form, source=source)
    return BlockRows(documents, form, source=source)


def _rows_of_stream(
    documents: RowStream, form: Form, epoch: int, buffer_size: int
) -> Iterator[PretrainingRow]:
    if isinstance(form, PairForm):
        return stream_pairs(documents, form, epoch, buffer_size=buffer_size)
    return stream_blocks(documents, form, epoch)


def _name(number: int, data: PretrainDataConfig) -> str:
    """The data set whose held-out documents have this number in ``prepare_datasets``' evaluation rows."""
    paths = [dataset.path for dataset in (*data.datasets, *data.eval_datasets)]
    if not data.streaming:
        return paths[number]
    # What is held out of all streams together comes first.
    return "held out of the stream" if number == 0 else paths[len(data.datasets) + number - 1]


def _source(name: str, documents: RowSelection) -> EvalSource:
    characters = sum(len(plain_text(example)) for example in documents.examples)
    return EvalSource(name, characters / max(1, int(documents.lengths.sum())))


def _mixed(
    documents: RowSelection, weights: Sequence[float], exponent: float, rng: np.random.Generator
) -> RowSelection:
    """The documents of each data set, each of them once in ``documents``, repeated by weight."""
    numbers = documents.source_numbers()
    used = [number for number, weight in enumerate(weights) if weight > 0]
    places = [np.flatnonzero(numbers == number) for number in used]
    counts = mixture_counts([len(own) for own in places], [weights[number] for number in used], exponent)
    chosen = [own[mixture_indices(len(own), n, rng)] for own, n in zip(places, counts, strict=True)]
    return RowSelection(documents.sources, documents.indices[np.concatenate(chosen)])


def _describe(form: Form) -> str:
    if isinstance(form, BlockForm):
        return repr(form)
    return f"pairs {form.length} {form.kind} {form.seed}"


def shortened(example: dict[str, Any], *, with_specials: bool) -> dict[str, Any]:
    """The example with ``SHOWN_TOKENS`` tokens at most; its closing special token stays."""
    if "first" in example:
        half = SHOWN_TOKENS // 2
        return {**example, "first": example["first"][:half], "second": example["second"][:half]}
    ids = np.asarray(example["input_ids"])
    lengths = example.get("segment_lengths") or [len(ids)]
    if len(ids) > SHOWN_TOKENS:
        ids = np.append(ids[: SHOWN_TOKENS - 1], ids[-1]) if with_specials else ids[:SHOWN_TOKENS]
        ends = np.minimum(np.cumsum(lengths), SHOWN_TOKENS)
        lengths = [length for length in np.diff(ends, prepend=0).tolist() if length]
    return {
        "input_ids": ids,
        "segment_lengths": lengths,
        "index": example["index"],
        "epoch": example["epoch"],
    }
