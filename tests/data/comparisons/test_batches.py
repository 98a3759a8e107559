from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison

from hf_align.data.batching import split_by_tokens
from hf_align.data.comparisons.batches import collate_comparisons, without_pairs
from hf_align.data.packing import make_segments, to_device
from hf_align.types import ComparisonRow, TokenizedRow


def branch(ids: list[int], mask: list[int]) -> TokenizedRow:
    return TokenizedRow(np.array(ids, dtype=np.int32), np.array(mask, dtype=bool))


PAIR = ComparisonRow(
    prefix=np.array([11, 12], dtype=np.int32),
    branches=(branch([13, 21, 22], [0, 1, 1]), branch([13, 31, 32, 33], [0, 1, 1, 0])),
    scores=np.array([0.0, 1.0]),
    margin=0.5,
)
RANKED = ComparisonRow(
    prefix=np.zeros(0, dtype=np.int32),
    branches=(branch([41, 42], [0, 1]), branch([41, 43], [0, 1]), branch([41, 44], [0, 1])),
    scores=np.array([2.0, 1.0, 1.0]),
)


def test_a_tree_holds_the_prompt_once_and_restarts_positions_after_it() -> None:
    batch = collate_comparisons([PAIR, RANKED], packed=True)
    inputs = batch.inputs
    assert inputs.input_ids.tolist() == [[11, 12, 13, 21, 22, 13, 31, 32, 33, 41, 42, 41, 43, 41, 44]]
    assert inputs.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3, 4, 5, 0, 1, 0, 1, 0, 1]]
    none = -100
    assert inputs.shift_labels.tolist() == [
        [none, none, 21, 22, none, 31, 32, none, none, 42, none, 43, none, 44, none]
    ]
    assert inputs.segments is not None
    assert inputs.segments.lengths == (2, 3, 4, 2, 2, 2)
    assert inputs.segments.parents == (-1, 0, 0, -1, -1, -1)
    assert inputs.segments.key_lengths == (2, 5, 6, 2, 2, 2)
    assert inputs.segments.key_index is not None and inputs.segments.cu_seqlens_k is not None
    assert inputs.segments.key_index.tolist()[:13] == [0, 1, 0, 1, 2, 3, 4, 0, 1, 5, 6, 7, 8]
    assert inputs.segments.cu_seqlens_k.tolist() == [0, 2, 7, 13, 15, 17, 19]
    assert (inputs.tokens, inputs.target_tokens, batch.prompts) == (15, 7, 2)
    assert batch.target_answers.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert batch.last_tokens.tolist() == [4, 8, 10, 12, 14]
    assert batch.answer_lengths.tolist() == [2, 2, 1, 1, 1]


def test_pairs_do_not_tie_and_every_prompt_counts_once() -> None:
    batch = collate_comparisons([PAIR, RANKED], packed=True)
    assert list(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)) == [(1, 0), (2, 3), (2, 4)]
    assert batch.pair_weights.tolist() == [1.0, 0.5, 0.5]
    assert batch.margins.tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("packed", [True, False])
def test_without_sharing_every_answer_has_its_own_prompt(packed: bool) -> None:
    batch = collate_comparisons([PAIR], packed=packed, share_prefix=False, pad_token_id=7)
    first, second = [11, 12, 13, 21, 22], [11, 12, 13, 31, 32, 33]
    if packed:
        assert batch.inputs.input_ids.tolist() == [first + second]
        assert batch.inputs.segments is not None
        assert (batch.inputs.segments.lengths, batch.inputs.segments.parents) == ((5, 6), ())
        assert batch.last_tokens.tolist() == [4, 10]
    else:
        assert batch.inputs.input_ids.tolist() == [[*first, 7], second]
        assert batch.last_tokens.tolist() == [4, 11]
    assert batch.target_answers.tolist() == [0, 0, 1, 1]


def test_the_references_log_probabilities_follow_the_targets() -> None:
    values = (np.array([-1.0, -2.0], np.float32), np.array([-3.0, -4.0], np.float32))
    known = ComparisonRow(PAIR.prefix, PAIR.branches, PAIR.scores, reference_logps=values)
    batch = collate_comparisons([known, without_pairs()], packed=True)
    assert batch.reference_logps is not None
    assert batch.reference_logps.tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert collate_comparisons([known, PAIR], packed=True).reference_logps is None


def test_a_filler_has_neither_targets_nor_pairs() -> None:
    batch = collate_comparisons([without_pairs()], packed=True)
    assert (batch.inputs.target_tokens, len(batch.chosen)) == (0, 0)


def test_the_budget_counts_shared_prompts_once_and_padding_where_there_is_some() -> None:
    rows = [random_comparison(10, (3, 5), seed=i) for i in range(4)]
    assert [len(batch) for batch in split_by_tokens(rows, 36)] == [2, 2]
    # Without sharing a row is two sequences of 13 and 15 tokens.
    assert [len(batch) for batch in split_by_tokens(rows, 56, shared=False)] == [2, 2]
    assert [len(batch) for batch in split_by_tokens(rows, 55, shared=False)] == [1, 1, 1, 1]
    # Padded: two sequences of up to 15 tokens a row.
    assert [len(batch) for batch in split_by_tokens(rows, 89, padded=True)] == [2, 2]
    assert [len(batch) for batch in split_by_tokens(rows, 90, padded=True)] == [3, 1]


@pytest.mark.parametrize("parents", [(0, -1), (-1, 0, 1), (-1, 2, -1)])
def test_a_parent_stands_before_its_children_and_has_none_itself(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot continue segment"):
        make_segments([2] * len(parents), parents)


def test_every_tensor_moves_to_the_device() -> None:
    moved = to_device(collate_comparisons([PAIR], packed=True), "meta")
    assert moved.chosen.is_meta and moved.inputs.input_ids.is_meta
    assert moved.inputs.segments is not None and moved.inputs.segments.key_index is not None
    assert moved.inputs.segments.key_index.is_meta and moved.prompts == 1


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        collate_comparisons([], packed=True)


def test_pieces_share_no_memory_with_the_rows() -> None:
    batch = collate_comparisons([PAIR], packed=True)
    batch.inputs.input_ids.zero_()
    assert PAIR.prefix.tolist() == [11, 12]
    assert torch.equal(
        collate_comparisons([PAIR], packed=True).inputs.input_ids[0, :2], torch.tensor([11, 12])
    )
