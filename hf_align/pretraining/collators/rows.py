"""Examples to flat arrays and flat arrays to padded tensors: what every collator does before and after its
noise.

An example is a mapping with ``input_ids`` (list, array or tensor), an object with that attribute, or the ids
themselves. Its ``index`` (and its ``epoch``, where it carries one) choose its noise. An example without an
index is told apart by its ids, so that two examples with the same ids get the same noise in the same epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.pretraining.collators.draws import Bits, Draws, Integers, content_keys, example_keys


@dataclass(frozen=True)
class Rows:
    """B token sequences, one after the other.

    ``ids`` (N,) int64. ``lengths`` (B,) int64, possibly 0. ``draws``: the random numbers of each sequence.
    """

    ids: Integers
    lengths: Integers
    draws: Draws

    @cached_property
    def starts(self) -> Integers:
        """(B,) where each sequence begins in ``ids``."""
        return starts_of(self.lengths)

    @cached_property
    def row_of(self) -> Integers:
        """(N,) the sequence that each token belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def starts_of(lengths: Integers) -> Integers:
    """(B,) where each of B pieces begins when they are put one after the other."""
    return np.cumsum(lengths) - lengths


def count_by_row(flags: npt.NDArray[np.bool_], lengths: Integers) -> Integers:
    """(B,) how many of ``flags`` (N,) are set in each row."""
    total = np.concatenate(([0], np.cumsum(flags)))
    ends = np.cumsum(lengths)
    return total[ends] - total[ends - lengths]


def read_rows(examples: Sequence[Any], *, seed: int, epoch: int) -> Rows:
    """The ids of ``examples`` and the start of their random numbers.

    Raises UserError for a batch without examples and an example without ids.
    """
    if not len(examples):
        raise UserError("a collator was called with no examples; expected a list of at least one")
    ids, lengths = flat_ids([ids_of(example) for example in examples])
    keys = keys_of(examples, ids, lengths, seed=seed, epoch=epoch)
    return Rows(ids, lengths, Draws(keys))


def keys_of(examples: Sequence[Any], ids: Integers, lengths: Integers, *, seed: int, epoch: int) -> Bits:
    """(B,) the start of each example's random numbers."""
    given = [example if isinstance(example, Mapping) else {} for example in examples]
    indices = [example.get("index") for example in given]
    epochs = np.array([example.get("epoch", epoch) for example in given], dtype=np.int64)
    if any(index is None for index in indices):
        if not all(index is None for index in indices):
            raise UserError(
                "some examples of a batch have an 'index' and some have none; expected all or none"
            )
        return example_keys(seed, epochs, content_keys(ids, starts_of(lengths)))
    return example_keys(seed, epochs, np.array(indices, dtype=np.int64))


def ids_of(example: Any, field: str = "input_ids") -> Any:
    """The token ids of one example."""
    if isinstance(example, Mapping):
        if field not in example:
            raise UserError(
                f"an example has no '{field}', only {sorted(example)}. Where a transformers Trainer calls "
                "the collator, set remove_unused_columns=False, or columns that the model lacks are lost"
            )
        return example[field]
    return getattr(example, field, example)


def flat_ids(sequences: Sequence[Any]) -> tuple[Integers, Integers]:
    """((N,) all ids, (B,) lengths), both int64. Raises UserError for an empty sequence."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    if not lengths.all():
        empty = int(np.flatnonzero(lengths == 0)[0])
        raise UserError(f"example {empty} of a batch has no tokens; leave out texts without any")
    if all(isinstance(ids, list) for ids in sequences):
        flat = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    else:
        flat = np.concatenate([np.asarray(ids) for ids in sequences]).astype(np.int64, copy=False)
    return flat, lengths


def width_of(lengths: Integers, multiple: int) -> int:
    """The longest of ``lengths``, rounded up to a multiple."""
    return -(-int(lengths.max()) // multiple) * multiple


def real_tokens(lengths: Integers, width: int) -> npt.NDArray[np.bool_]:
    """(B, width) True where a row of that length has a token."""
    return np.arange(width) < lengths[:, None]


def padded(values: npt.NDArray[Any], real: npt.NDArray[np.bool_], fill: int) -> npt.NDArray[Any]:
    """Flat ``values`` (N,) laid out as rows: (B, T), ``fill`` where ``real`` (B, T) is False."""
    if len(values) == real.size:
        return values.reshape(real.shape).copy()
    rows = np.full(real.shape, fill, dtype=values.dtype)
    rows[real] = values
    return rows
