"""Rows with a label to tokenised rows: formats, labels, lengths, held-out rows and mixture.

What the sources yield, how they are counted and how a mixture is made is that of every stage. Labels are
known once all rows are read, so that everything is held in memory; there is no cache and no stream. Making
batches is the business of ``labelled_batches``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_align.data.formats import RowFormat, resolve_format
from hf_align.data.mixture import mixture_counts, mixture_indices
from hf_align.data.pipeline import check_overlong, check_shares
from hf_align.data.prepare import hold_out
from hf_align.data.raw import MalformedRow, kind_of, printable
from hf_align.data.report import DataReport, SourceReport
from hf_align.data.sources import read_rows
from hf_align.data.turns import read_text, refuse_empty
from hf_align.errors import UserError, did_you_mean
from hf_align.types import LabelledRow, LabelledText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig, DatasetConfig

_ROWS_SEEN_FOR_DETECTION = 50
_ROWS_TOKENIZED_TOGETHER = 1000
_SHOWN_LABELS = 20


@dataclass(frozen=True)
class LabelledData:
    """Rows for training and evaluation; ``eval_examples[i]`` is the text of ``eval[i]``.

    ``labels``: the names of the classes by their numbers. ``train_labels``: how many training rows each has.
    """

    train: list[LabelledRow]
    eval: list[LabelledRow]
    eval_examples: list[LabelledText]
    labels: tuple[str, ...]
    report: DataReport
    train_fingerprint: str

    @property
    def train_labels(self) -> list[int]:
        return [int(n) for n in np.bincount([row.label for row in self.train], minlength=len(self.labels))]


def _from_text(place: str, values: dict[str, Any]) -> LabelledText:
    return LabelledText(place, _text(values["text"], "text"), None, read_label(values["label"]))


def _from_pair(place: str, values: dict[str, Any]) -> LabelledText:
    first, second = _text(values["sentence1"], "sentence1"), _text(values["sentence2"], "sentence2")
    return LabelledText(place, first, second, read_label(values["label"]))


LABELLED_FORMATS: dict[str, RowFormat] = {
    "labelled_pair": RowFormat(("sentence1", "sentence2", "label"), (), _from_pair),
    "labelled_text": RowFormat(("text", "label"), (), _from_text),
}
"""Rows with one text, or two, and the label of what they are."""


def _text(value: Any, column: str) -> str:
    text = read_text(value, column)
    refuse_empty(text, column)
    return text


def read_label(value: Any) -> str:
    """The name of a label: a text as it stands, or a whole number written out.

    Raises MalformedRow for anything else.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value, "label")
    raise MalformedRow(f"label: expected a text or a whole number, found {kind_of(value)}")


def prepare_labelled(
    data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    labels: Sequence[str] | None = None,
    separator: str = "\n\n",
) -> LabelledData:
    """Read, tokenise, split and mix the rows of a recipe.

    ``labels``: the classes in the order of their numbers; by default those of the training rows, sorted, as
    numbers where all are. ``separator`` stands between the texts of a pair where the tokenizer itself puts
    nothing there. Rows are tokenised as ``tokenizer(text)`` does, so whoever loads the model gets the same.

    Errors: ``UserError`` where a source cannot be read, lacks the columns, has no usable row or too many
    malformed ones; where rows are too long and ``overlong`` is ``error``; where there is one label only; for
    a label that the training rows, or ``labels``, do not have, with its row.
    """
    rng = np.random.default_rng(seed)
    encoder = _Encoder(tokenizer, data, separator)
    train = [_read(dataset, encoder, "train") for dataset in data.datasets]
    rest = [_read(dataset, encoder, "eval") for dataset in data.eval_datasets]
    report = DataReport([source.report for source in (*train, *rest)])
    check_overlong(report.sources, data)
    names = tuple(labels) if labels is not None else _found_labels(train)
    held_out, remaining = hold_out([len(source.rows) for source in train], data, rng)
    report.held_out = len(held_out)
    report.mixture = mixture_counts(
        [len(rows) for rows in remaining], [d.weight for d in data.datasets], data.mixture_exponent
    )
    chosen = np.concatenate(
        [
            rows[mixture_indices(len(rows), count, rng)]
            for rows, count in zip(remaining, report.mixture, strict=True)
        ]
    )
    texts = [*chain.from_iterable(source.texts for source in train)]
    rows = [*chain.from_iterable(source.rows for source in train)]
    numbers = {name: number for number, name in enumerate(names)}
    given = "the recipe's labels are" if labels is not None else "the training rows have"
    train_rows = [_labelled(rows[i], texts[i], numbers, n, given) for n, i in enumerate(chosen.tolist())]
    eval_texts = [*(texts[i] for i in held_out), *chain.from_iterable(source.texts for source in rest)]
    eval_rows = [*(rows[i] for i in held_out), *chain.from_iterable(source.rows for source in rest)]
    eval_rows = [
        _labelled(row, text, numbers, n, given)
        for n, (row, text) in enumerate(zip(eval_rows, eval_texts, strict=True))
    ]
    seen = {_digest(row) for row in train_rows}
    report.leaked = sum(_digest(row) in seen for row in eval_rows)
    report.train_rows, report.eval_rows = len(train_rows), len(eval_rows)
    fingerprint = _fingerprint(train_rows, names)
    report.fingerprint = _fingerprint(eval_rows, (fingerprint,))
    return LabelledData(train_rows, eval_rows, eval_texts, names, report, fingerprint)


@dataclass(frozen=True)
class _Encoder:
    """Texts to rows without a label, of up to ``data.max_length`` tokens."""

    tokenizer: PreTrainedTokenizerBase
    data: DataConfig
    separator: str

    def encode(self, texts: Sequence[LabelledText], **options: Any) -> list[LabelledRow]:
        pairs: dict[str, Any] = {}
        first = [text.text for text in texts]
        if texts and texts[0].pair is not None:
            second = [text.pair for text in texts]
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
                text.source,
                segment_ids=None if kinds is None else np.asarray(kinds, dtype=np.int32),
            )
            for ids, kinds, text in zip(found["input_ids"], segments, texts, strict=True)
        ]

    def fitted(self, text: LabelledText, row: LabelledRow, report: SourceReport) -> LabelledRow | None:
        """The row, cut or refused by its length and counted; None where it is not kept."""
        if not len(row):
            report.add_malformed(text.source, "the text has no token")
            return None
        report.add_length(len(row), text.source)
        if len(row) > self.data.max_length:
            report.overlong += 1
            if self.data.overlong != "truncate":
                report.dropped += 1
                return None
            # By the tokenizer, which keeps the tokens that it puts around a text.
            (row,) = self.encode([text], truncation=True, max_length=self.data.max_length)
            report.truncated += 1
        report.kept += 1
        report.tokens += len(row)
        return row


def separates_pairs(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts something between the two texts of a pair."""
    alone, pair = (tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    return int(pair) > int(alone)


@dataclass(frozen=True)
class _Source:
    texts: list[LabelledText]
    rows: list[LabelledRow]
    report: SourceReport


def _read(dataset: DatasetConfig, encoder: _Encoder, role: str) -> _Source:
    report = SourceReport(dataset.path, role)
    raw = read_rows(dataset)
    first = list(islice(raw, _ROWS_SEEN_FOR_DETECTION))
    report.format, convert = resolve_format(
        dataset.format, dataset.columns, first, where=dataset.path, formats=LABELLED_FORMATS
    )
    found: list[LabelledText] = []
    for row in chain(first, raw):
        report.read += 1
        try:
            found.append(convert(row))
        except MalformedRow as problem:
            report.add_malformed(row.place, str(problem), problem.kind)
    texts: list[LabelledText] = []
    rows: list[LabelledRow] = []
    for start in range(0, len(found), _ROWS_TOKENIZED_TOGETHER):
        some = found[start : start + _ROWS_TOKENIZED_TOGETHER]
        for text, encoded in zip(some, encoder.encode(some), strict=True):
            fitted = encoder.fitted(text, encoded, report)
            if fitted is not None:
                texts.append(text)
                rows.append(fitted)
    report.duplicates = len(rows) - len({_digest(row) for row in rows})
    check_shares(report, encoder.data)
    if not rows and not (report.overlong and encoder.data.overlong == "error"):
        raise UserError(
            f"{report.name}: none of its {report.read} rows can be used: {report.malformed} malformed, "
            f"{report.dropped} dropped because they are longer than max_length = {encoder.data.max_length} "
            f"tokens (the longest: {report.longest})."
        )
    return _Source(texts, rows, report)


def _found_labels(sources: Sequence[_Source]) -> tuple[str, ...]:
    """The labels of the training rows: by value where all are whole numbers, else by the alphabet."""
    found = {text.label for source in sources for text in source.texts}
    if len(found) < 2:
        one = f"the label {printable(next(iter(found)))!r} alone" if found else "no label"
        raise UserError(f"datasets: the training rows have {one}; expected two or more to tell apart.")
    if all(name.removeprefix("-").isdecimal() for name in found):
        # 1 and 01 are different names of the same number.
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def _labelled(
    row: LabelledRow, text: LabelledText, numbers: dict[str, int], number: int, given: str
) -> LabelledRow:
    if text.label not in numbers:
        shown = [printable(name) for name in [*numbers][:_SHOWN_LABELS]]
        more = f" and {len(numbers) - len(shown)} more" if len(numbers) > len(shown) else ""
        raise UserError(
            f"{text.source}: found the label '{printable(text.label)}'; {given} {', '.join(shown)}{more}."
            f"{did_you_mean(text.label, numbers)}"
        )
    return LabelledRow(
        row.input_ids, row.target_mask, row.source, numbers[text.label], row.segment_ids, number
    )


def _digest(row: LabelledRow) -> bytes:
    kinds = b"" if row.segment_ids is None else row.segment_ids.tobytes()
    return row.input_ids.tobytes() + kinds


def _fingerprint(rows: Iterable[LabelledRow], names: Sequence[str]) -> str:
    """Changes when a row, its label, the labels or the order of the rows do."""
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "backslashreplace"), digest_size=16)
    for row in rows:
        digest.update(f"{row.label} {len(row)} ".encode() + _digest(row))
    return digest.hexdigest()
