"""Rows with a label for training and evaluation: which number each label has.

Rows are prepared as for every stage (``data.prepare``, with the encoder of ``data.labelled``). The labels are
known once all rows are read, so there is no stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import LABELLED_FORMATS
from hf_align.data.labelled import LabelledEncoder
from hf_align.data.prepare import prepare_rows
from hf_align.data.reading.raw import printable
from hf_align.data.report import DataReport
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError, did_you_mean, without_controls
from hf_align.types import LabelledRow, LabelledText, LazySequence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig

_SHOWN_LABELS = 20


class LabelledRows(LazySequence[LabelledRow]):
    """The rows of a selection with their labels and their places in it; ``labels`` (M,) int64."""

    def __init__(self, rows: RowSelection, labels: npt.NDArray[np.int64]) -> None:
        self.rows = rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> LabelledRow:
        return replace(self.rows[index], label=int(self.labels[index]), number=index)


@dataclass(frozen=True)
class LabelledData:
    """Rows for training and evaluation; ``eval_examples[i]`` is the text of ``eval[i]``.

    ``labels``: the names of the classes by their numbers. ``train_labels``: how many training rows each has.
    """

    train: LabelledRows
    eval: LabelledRows
    eval_examples: Sequence[LabelledText]
    labels: tuple[str, ...]
    report: DataReport
    train_fingerprint: str

    @property
    def train_labels(self) -> list[int]:
        return [int(n) for n in np.bincount(self.train.labels, minlength=len(self.labels))]


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

    Errors: as ``prepare_rows``; ``UserError`` where there is one label only, and for a label that the
    training rows, or ``labels``, do not have, with its row.
    """
    prepared: Any = prepare_rows(data, LabelledEncoder(tokenizer, separator), seed=seed, keep_examples=True)
    # One array over the rows of all sources, those of the training data first, as selections number them.
    sources = prepared.eval.sources
    given = [source.example(row).label for source in sources for row in range(len(source))]
    trained = given[: sum(map(len, prepared.train.sources))]
    names = _found_labels(trained, _order_of(data)) if labels is None else tuple(labels)
    number_of = {name: number for number, name in enumerate(names)}
    numbers = np.array([number_of.get(label, -1) for label in given], np.int64)
    origin = "the recipe's labels are" if labels is not None else "the training rows have"
    train, evaluation = (
        _labelled(selection, numbers, number_of, origin) for selection in (prepared.train, prepared.eval)
    )
    fingerprint = _fingerprint(train, names)
    prepared.report.fingerprint = _fingerprint(evaluation, (fingerprint,))
    return LabelledData(train, evaluation, prepared.eval_examples, names, prepared.report, fingerprint)


def classes_line(data: LabelledData) -> str:
    """The classes with their training rows, for the terminal: ``2 classes: ham (12 rows), spam (9)``."""
    counts = zip(data.labels, data.train_labels, strict=True)
    shown = [f"{printable(name)} ({count:,})" for name, count in [*counts][:_SHOWN_LABELS]]
    more = f" and {len(data.labels) - len(shown)} more" if len(data.labels) > len(shown) else ""
    return without_controls(f"{len(data.labels)} classes, with their training rows: {', '.join(shown)}{more}")


def _order_of(data: DataConfig) -> tuple[str, ...]:
    """The classes in the order that all training data sets give them; empty where there is no such order."""
    orders = {open_rows(dataset, LABELLED_FORMATS)[0].classes for dataset in data.datasets}
    return orders.pop() if len(orders) == 1 else ()


def _found_labels(labels: Iterable[str], order: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels of the training rows in the ``order`` of the data set, where it has one; else by value where
    all are whole numbers, else by the alphabet."""
    found = set(labels)
    if len(found) < 2:
        one = f"the label {printable(next(iter(found)))!r} alone" if found else "no label"
        raise UserError(f"datasets: the training rows have {one}; expected two or more to tell apart.")
    if found <= set(order):
        return tuple(name for name in order if name in found)
    if all(name.removeprefix("-").isdecimal() for name in found):
        # 1 and 01 are different names of the same number.
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def _labelled(
    selection: RowSelection, numbers: npt.NDArray[np.int64], number_of: dict[str, int], origin: str
) -> LabelledRows:
    """The rows of a selection with their labels; ``numbers``: of all rows of its sources, -1 for unknown."""
    labels = numbers[selection.indices]
    if (labels < 0).any():
        text = selection.examples[int(np.argmax(labels < 0))]
        shown = [printable(name) for name in [*number_of][:_SHOWN_LABELS]]
        more = f" and {len(number_of) - len(shown)} more" if len(number_of) > len(shown) else ""
        raise UserError(
            f"{text.source}: found the label '{printable(text.label)}'; {origin} {', '.join(shown)}{more}."
            f"{did_you_mean(text.label, number_of)}"
        )
    return LabelledRows(selection, labels)


def _fingerprint(rows: Iterable[LabelledRow], names: Sequence[str]) -> str:
    """Changes when a row, its label, the labels or the order of the rows do."""
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "backslashreplace"), digest_size=16)
    for row in rows:
        segments = b"" if row.segment_ids is None else row.segment_ids.tobytes()
        digest.update(f"{row.label} {len(row)} ".encode() + row.input_ids.tobytes() + segments)
    return digest.hexdigest()
