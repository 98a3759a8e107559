from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_align.data.packing import pack_rows, pad_rows, shifted_labels
from hf_align.types import TokenizedRow


def row(ids: list[int], mask: list[int]) -> TokenizedRow:
    return TokenizedRow(np.array(ids, dtype=np.int32), np.array(mask, dtype=bool))


ROWS = [row([11, 12, 13], [0, 0, 1]), row([21], [0]), row([31, 32, 33, 34], [0, 1, 0, 1])]


def test_labels_are_shifted_once_and_never_cross_a_boundary() -> None:
    assert shifted_labels(ROWS[0]).tolist() == [-100, 13, -100]
    batch = pack_rows(ROWS)
    assert batch.input_ids.tolist() == [[11, 12, 13, 21, 31, 32, 33, 34]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    assert batch.shift_labels.tolist() == [[-100, 13, -100, -100, 32, -100, 34, -100]]
    assert batch.segments is not None
    assert batch.segments.starts == (0, 3, 4)
    assert batch.segments.lengths == (3, 1, 4)
    assert batch.segments.cu_seqlens.tolist() == [0, 3, 4, 8]
    assert batch.segments.max_length == 4
    assert (batch.target_tokens, batch.tokens) == (3, 8)


def test_a_first_token_marked_as_target_is_never_predicted_from_the_neighbour() -> None:
    marked = row([7, 8], [1, 1])
    assert pack_rows([ROWS[0], marked]).shift_labels.tolist() == [[-100, 13, -100, 8, -100]]


def test_padding_is_on_the_right_and_masked() -> None:
    batch = pad_rows(ROWS, pad_token_id=13)
    assert batch.input_ids.tolist() == [[11, 12, 13, 13], [21, 13, 13, 13], [31, 32, 33, 34]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    # 13 is a target in the first row and padding after it: told apart by position, not by id.
    assert batch.shift_labels.tolist() == [
        [-100, 13, -100, -100],
        [-100, -100, -100, -100],
        [32, -100, 34, -100],
    ]
    assert batch.input_ids.dtype == torch.int64


@pytest.mark.parametrize("collate", [pack_rows, lambda rows: pad_rows(rows, 0)])
def test_no_rows_are_refused(collate) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        collate([])
