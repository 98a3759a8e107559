"""From the data part of a recipe to training and evaluation rows and the report on them.

Wires the parts: sources, formats, chat, mixture, stream. Batching is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.data.duplicates import without_repeats
from hf_align.data.encoding import RowEncoder
from hf_align.data.pipeline import DataSource, KeptRow, check_overlong, check_shares, kept_rows
from hf_align.data.plain_hints import tell_of_plain_prompts
from hf_align.data.reading.mixture import mixture_counts, mixture_indices
from hf_align.data.reading.stream import RowStream
from hf_align.data.report import DataReport, SourceReport
from hf_align.data.row_selection import RowSelection
from hf_align.data.seq2seq import Seq2SeqEncoder
from hf_align.data.store.datasets import stored_rows
from hf_align.data.store.flat_rows import FlatRows, flatten, in_memory
from hf_align.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig, DatasetConfig


@dataclass(frozen=True)
class PreparedData:
    """Rows for training and evaluation; ``eval_examples[i]`` is what ``eval[i]`` was made of.

    Rows are read from arrays when they are asked for; there is no object for each in memory.
    """

    train: RowSelection | RowStream
    eval: RowSelection
    eval_examples: Sequence[Any]
    report: DataReport

    @property
    def train_fingerprint(self) -> str | None:
        """Changes when a training row, its targets, its scores or its place in the order does.

        None for a stream.
        """
        return self.train.fingerprint if isinstance(self.train, RowSelection) else None


def prepare_datasets(
    data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    comparisons: bool = False,
    keep_examples: bool = False,
    seq2seq: bool = False,
    asked: bool = False,
    weighted: bool = False,
) -> PreparedData:
    """Read, convert, tokenise, split and mix the data of a recipe.

    ``comparisons``: the sources hold answers that were compared (``formats.COMPARISON_FORMATS``), and the
    rows are ``ComparisonRow``; without it they are ``TokenizedRow``. ``keep_examples``: whether the examples
    of training rows will be asked for (``train.examples``), as well as those of evaluation rows.
    ``seq2seq``: rows are prompts with answers for an encoder-decoder model. ``asked``: a model answers the
    rows, so that they may be prompts alone. ``weighted``: whether the weights of rows count; they are refused
    otherwise.

    Errors: as ``prepare_rows``; ``UserError`` where the options do not fit the kind of rows.
    """
    if seq2seq and data.target_patterns:
        raise UserError(
            "train_on: found patterns, and the answers of encoder-decoder models are trained whole. "
            "Leave it out."
        )
    if comparisons and data.train_on == "all":
        raise UserError(
            "train_on: found all, but compared answers share their prompt, and only the answers are trained; "
            "expected assistant or last."
        )
    encoder: RowEncoder = Seq2SeqEncoder(tokenizer)
    if not seq2seq:
        encoder = make_encoder(
            tokenizer,
            train_on=data.targets,
            patterns=data.target_patterns,
            add_eos=data.add_eos,
            require_end_of_turn=data.require_end_of_turn,
            keep_reasoning=data.keep_reasoning,
            weighs=weighted and not comparisons,
        )
        encoder = ComparisonEncoder(encoder) if comparisons else encoder
    return prepare_rows(data, encoder, seed=seed, keep_examples=keep_examples, asked=asked)


def prepare_rows(
    data: DataConfig, encoder: RowEncoder, *, seed: int, keep_examples: bool = False, asked: bool = False
) -> PreparedData:
    """As ``prepare_datasets``, with the rows that ``encoder`` makes.

    ``seed`` decides which rows are held out and which are repeated. Held-out rows are taken from the training
    sources before mixing and are never trained on; a copy of one that stays in the training data is counted
    as leaked. Several processes that call this at once prepare each large source once: one does, the others
    wait and read what it has kept. With ``dataset_cache: false`` each prepares for itself.

    Errors: ``UserError`` where a source cannot be read, is in a format of another kind, has no usable row,
    or has too many malformed rows or rows without a target; where rows are too long and ``overlong`` is
    ``error``; where the tokenizer or its template does not fit the data; where the held-out rows would leave
    none to train on; where prepared rows cannot be written.
    """
    if data.system_prompt is not None and not data.system_prompt.isascii():
        try:
            data.system_prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"system_prompt: not encodable as UTF-8: {error.reason}.") from error
    train_sources = _sources(data.datasets, data, encoder, "train", asked)
    eval_sources = _sources(data.eval_datasets, data, encoder, "eval", asked)
    if encoder.joins_prompts:
        for source in train_sources:
            tell_of_plain_prompts(source)
    report = DataReport([source.report for source in (*train_sources, *eval_sources)])
    rng = np.random.default_rng(seed)
    evaluation: RowSelection
    train: RowSelection | RowStream
    if data.streaming:
        held_out, first = _head_of_streams(train_sources, int(data.eval_split_size))
        head = in_memory([flatten(first, "", keep_examples=True)], "", encoder.rows)
        rest = [_usable_rows(source, keep_examples=True) for source in eval_sources]
        evaluation = RowSelection([head, *rest], np.arange(len(head) + sum(map(len, rest))))
        check_overlong(report.sources, data)
        report.held_out = sum(held_out)
        train = RowStream(train_sources, held_out, seed)
    else:
        keep_examples = keep_examples or data.eval_split_size > 0
        kept = [_usable_rows(source, keep_examples=keep_examples) for source in train_sources]
        rest = [_usable_rows(source, keep_examples=True) for source in eval_sources]
        check_overlong(report.sources, data)
        stays = [np.arange(len(rows)) for rows in kept]
        if data.drop_duplicates:
            stays = without_repeats(kept, [source.report for source in train_sources])
            _refuse_repeats_alone(stays, train_sources)
        used = np.concatenate(
            [start + own for start, own in zip(np.cumsum([0, *map(len, kept)]), stays, strict=False)]
        )
        held_out_rows, remaining = hold_out(list(map(len, stays)), data, rng)
        held_out_rows, remaining = used[held_out_rows], [used[own] for own in remaining]
        report.held_out = len(held_out_rows)
        total = sum(map(len, kept))
        further = np.arange(total, total + sum(map(len, rest)))
        evaluation = RowSelection([*kept, *rest], np.concatenate((held_out_rows, further)))
        report.mixture = mixture_counts(
            [len(rows) for rows in remaining],
            [dataset.weight for dataset in data.datasets],
            data.mixture_exponent,
        )
        mixed = [
            rows[mixture_indices(len(rows), count, rng)]
            for rows, count in zip(remaining, report.mixture, strict=True)
        ]
        train = RowSelection(kept, np.concatenate(mixed))
        report.train_rows = len(train)
        report.leaked = _count_leaks(train, evaluation)
        prints = f"{train.fingerprint} {evaluation.fingerprint}"
        report.fingerprint = blake2b(prints.encode(), digest_size=16).hexdigest()
    report.eval_rows = len(evaluation)
    return PreparedData(train, evaluation, evaluation.examples, report)


def _sources(
    datasets: Sequence[DatasetConfig], data: DataConfig, encoder: RowEncoder, role: str, asked: bool
) -> list[DataSource]:
    reports = [SourceReport(dataset.path, role) for dataset in datasets]
    if asked:
        for report in reports:
            report.others = "columns for reward functions alone"
    return [
        DataSource(dataset, data, encoder, report, asked=asked)
        for dataset, report in zip(datasets, reports, strict=True)
    ]


def _usable_rows(source: DataSource, *, keep_examples: bool) -> FlatRows:
    """All kept rows of a source, checked against the limits."""
    rows = stored_rows(source, keep_examples=keep_examples)
    check_shares(source.report, source.data)
    if not len(rows) and not (source.report.overlong and source.data.overlong == "error"):
        report = source.report
        raise UserError(
            f"{report.name}: none of its {report.read} rows can be used: {report.malformed} malformed, "
            f"{report.dropped} dropped because they are longer than max_length = {source.data.max_length} "
            f"tokens (the longest: {report.longest}), {report.no_target} without a target."
        )
    return rows


def _refuse_repeats_alone(stays: Sequence[npt.NDArray[np.int64]], sources: Sequence[DataSource]) -> None:
    for own, source in zip(stays, sources, strict=True):
        if not len(own):
            raise UserError(
                f"drop_duplicates: every row of {source.report.name} repeats one of the data sets before it; "
                "remove it from datasets."
            )


def hold_out(
    sizes: Sequence[int], data: DataConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """(held-out rows, remaining rows of each source), drawn evenly from all rows of all sources.

    Rows are numbered one source after the other; ``sizes`` are the sources' row counts.
    """
    total = sum(sizes)
    size = data.eval_split_size
    count = int(size) if size >= 1 else max(1, round(size * total)) if size > 0 else 0
    if count >= total:
        raise UserError(
            f"eval_split_size: {size:g} would hold out {count if count == total else 'more than all'} of "
            f"{total} usable rows and leave none to train on; expected less."
        )
    chosen = np.zeros(total, dtype=bool)
    chosen[rng.permutation(total)[:count]] = True
    remaining, start = [], 0
    for rows, dataset in zip(sizes, data.datasets, strict=True):
        remaining.append(start + np.flatnonzero(~chosen[start : start + rows]))
        start += rows
        if not len(remaining[-1]):
            raise UserError(
                f"eval_split_size: {size:g} holds out all {rows} usable rows of {dataset.path} and "
                "leaves none of it to train on; use a smaller split or eval_datasets."
            )
    return np.flatnonzero(chosen), remaining


def _head_of_streams(sources: Sequence[DataSource], count: int) -> tuple[list[int], list[KeptRow]]:
    """(rows held out at the start of each source, those rows): ``count`` in all, shared out by weight."""
    total = sum(source.dataset.weight for source in sources)
    bounds, reached = [0], 0.0
    for source in sources:
        reached += source.dataset.weight
        bounds.append(round(count * reached / total))
    counts = [end - start for start, end in pairwise(bounds)]
    held_out: list[KeptRow] = []
    for source, wanted in zip(sources, counts, strict=True):
        rows = kept_rows(source, streaming=True)
        for _ in range(wanted):
            row = next(rows, None)
            if row is None:
                check_shares(source.report, source.data)
                raise UserError(
                    f"eval_split_size: {source.report.name} has fewer than the {wanted} usable rows that are "
                    "to be held out of it."
                )
            held_out.append(row)
    return counts, held_out


def _count_leaks(train: RowSelection, evaluation: RowSelection) -> int:
    """Evaluation rows whose ids are those of a training row."""
    if not len(evaluation):
        return 0
    evaluated = np.concatenate([block[:, :2] for block in evaluation.digest_blocks()])
    copies: set[tuple[int, ...]] = set()
    for trained in train.digest_blocks():
        # By the first word in arrays, by both words for the few that pass.
        copies.update(map(tuple, trained[np.isin(trained[:, 0], evaluated[:, 0]), :2].tolist()))
    return sum(tuple(row) in copies for row in evaluated.tolist())
