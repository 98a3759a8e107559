"""From the data part of a recipe to training and evaluation rows and the report on them.

Wires the parts: sources, formats, chat, mixture, stream. Batching is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hf_align.data.chat import Encoder, make_encoder
from hf_align.data.mixture import mixture_counts, mixture_indices
from hf_align.data.pipeline import KeptRow, Source, check_overlong, check_shares, kept_rows
from hf_align.data.report import DataReport, SourceReport
from hf_align.data.stream import RowStream
from hf_align.errors import UserError
from hf_align.types import Example, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig, DatasetConfig


@dataclass(frozen=True)
class PreparedData:
    """Rows for training and evaluation; ``eval_examples[i]`` is the example behind ``eval[i]``."""

    train: list[TokenizedRow] | RowStream
    eval: list[TokenizedRow]
    eval_examples: list[Example]
    report: DataReport


def prepare_datasets(data: DataConfig, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreparedData:
    """Read, convert, tokenise, split and mix the data of a recipe.

    ``seed`` decides which rows are held out and which are repeated. Held-out rows are taken from the training
    sources before mixing and are never trained on; a copy of one that stays in the training data is counted
    as leaked.

    Errors: ``UserError`` where a source cannot be read, has no usable row, or has too many malformed rows or
    rows without a target; where rows are too long and ``overlong`` is ``error``; where the tokenizer or its
    template does not fit the data; where the held-out rows would leave none to train on.
    """
    if data.system_prompt is not None and not data.system_prompt.isascii():
        try:
            data.system_prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"system_prompt: not encodable as UTF-8: {error.reason}.") from error
    encoder = make_encoder(
        tokenizer,
        train_on=data.train_on,
        add_eos=data.add_eos,
        require_end_of_turn=data.require_end_of_turn,
    )
    train_sources = _sources(data.datasets, data, encoder, "train")
    eval_sources = _sources(data.eval_datasets, data, encoder, "eval")
    report = DataReport([source.report for source in (*train_sources, *eval_sources)])
    rng = np.random.default_rng(seed)
    evaluation: list[KeptRow]
    train: list[TokenizedRow] | RowStream
    if data.streaming:
        held_out, evaluation = _head_of_streams(train_sources, int(data.eval_split_size))
        evaluation += [row for source in eval_sources for row in _usable_rows(source)]
        check_overlong((source.report for source in (*train_sources, *eval_sources)), data)
        report.held_out = sum(held_out)
        train = RowStream(train_sources, held_out, seed)
    else:
        kept = [_usable_rows(source) for source in train_sources]
        evaluation = [row for source in eval_sources for row in _usable_rows(source)]
        check_overlong(report.sources, data)
        kept, held_out_rows = _hold_out(kept, data, rng)
        report.held_out = len(held_out_rows)
        evaluation = held_out_rows + evaluation
        report.mixture = mixture_counts(
            [len(rows) for rows in kept], [dataset.weight for dataset in data.datasets], data.mixture_exponent
        )
        train = [
            rows[index][0]
            for rows, count in zip(kept, report.mixture, strict=True)
            for index in mixture_indices(len(rows), count, rng)
        ]
        report.train_rows = len(train)
        report.leaked = _count_leaks(train, evaluation)
        report.fingerprint = _fingerprint(train, [row for row, _ in evaluation])
    report.eval_rows = len(evaluation)
    return PreparedData(train, [row for row, _ in evaluation], [example for _, example in evaluation], report)


def _sources(
    datasets: Sequence[DatasetConfig], data: DataConfig, encoder: Encoder, role: str
) -> list[Source]:
    return [Source(dataset, data, encoder, SourceReport(dataset.path, role)) for dataset in datasets]


def _usable_rows(source: Source) -> list[KeptRow]:
    """All kept rows of a source, checked against the limits; duplicates are counted."""
    rows = list(kept_rows(source))
    check_shares(source.report, source.data)
    if not rows and not (source.report.overlong and source.data.overlong == "error"):
        report = source.report
        raise UserError(
            f"{report.name}: none of its {report.read} rows can be used: {report.malformed} malformed, "
            f"{report.dropped} dropped because they are longer than max_length = {source.data.max_length} "
            f"tokens (the longest: {report.longest}), {report.no_target} without a target."
        )
    source.report.duplicates = len(rows) - len({_digest(row) for row, _ in rows})
    return rows


def _hold_out(
    kept: list[list[KeptRow]], data: DataConfig, rng: np.random.Generator
) -> tuple[list[list[KeptRow]], list[KeptRow]]:
    """(training rows by source, held-out rows), drawn evenly from all rows of all sources."""
    total = sum(len(rows) for rows in kept)
    size = data.eval_split_size
    count = int(size) if size >= 1 else max(1, round(size * total)) if size > 0 else 0
    if count >= total:
        raise UserError(
            f"eval_split_size: {size:g} would hold out {count} of {total} usable rows and leave none to "
            "train on; expected less."
        )
    chosen = set(rng.permutation(total)[:count].tolist())
    held_out, remaining, start = [], [], 0
    for rows, dataset in zip(kept, data.datasets, strict=True):
        held_out += [row for index, row in enumerate(rows, start) if index in chosen]
        remaining.append([row for index, row in enumerate(rows, start) if index not in chosen])
        start += len(rows)
        if not remaining[-1]:
            raise UserError(
                f"eval_split_size: {size:g} holds out all {len(rows)} usable rows of {dataset.path} and "
                "leaves none of it to train on; use a smaller split or eval_datasets."
            )
    return remaining, held_out


def _head_of_streams(sources: Sequence[Source], count: int) -> tuple[list[int], list[KeptRow]]:
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


def _digest(row: TokenizedRow) -> bytes:
    return blake2b(row.input_ids.tobytes(), digest_size=16).digest()


def _count_leaks(train: Sequence[TokenizedRow], evaluation: Sequence[KeptRow]) -> int:
    if not evaluation:
        return 0
    trained = {_digest(row) for row in train}
    return sum(_digest(row) in trained for row, _ in evaluation)


def _fingerprint(*parts: Sequence[TokenizedRow]) -> str:
    digest = blake2b(digest_size=16)
    for rows in parts:
        digest.update(len(rows).to_bytes(8, "little"))
        for row in rows:
            digest.update(len(row).to_bytes(8, "little"))
            digest.update(row.input_ids.tobytes())
            digest.update(row.target_mask.tobytes())
    return digest.hexdigest()
