"""Target tokens from offsets, in cases worked out by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.masking import IdSet, end_of_turn, mask_of_spans, token_starts


def _mask(offsets: list[tuple[int, int]], span: tuple[int, int], special: tuple[int, ...] = ()) -> list[int]:
    flags = np.isin(np.arange(len(offsets)), special)
    return mask_of_spans(np.array(offsets), flags, [span]).astype(int).tolist()


def test_a_token_owns_the_characters_that_were_removed_before_it() -> None:
    assert token_starts(np.array([(0, 1), (2, 3)])).tolist() == [0, 1]
    assert _mask([(0, 1), (2, 3)], (1, 2)) == [0, 1]


def test_tokens_that_share_one_character_are_all_targets() -> None:
    assert _mask([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], (1, 2)) == [0, 1, 1, 1, 0]


def test_tokens_across_both_ends_of_a_span_are_targets() -> None:
    assert _mask([(0, 2), (2, 4), (4, 6)], (1, 5)) == [1, 1, 1]
    assert _mask([(0, 2), (2, 4), (4, 6)], (2, 4)) == [0, 1, 0]


def test_white_space_with_empty_offsets_belongs_where_it_stands() -> None:
    # "a  b" as a, space, space, b, with the spaces reported as nothing at their ends.
    offsets = [(0, 1), (2, 2), (3, 3), (3, 4)]
    assert _mask(offsets, (1, 3)) == [0, 1, 1, 0]
    assert _mask(offsets, (3, 4)) == [0, 0, 0, 1]


def test_a_mark_without_characters_belongs_to_the_span_it_opens() -> None:
    offsets = [(0, 3), (3, 3), (3, 4), (4, 4), (4, 6)]
    assert _mask(offsets, (3, 4)) == [0, 1, 1, 0, 0]


def test_a_special_token_before_a_span_is_no_target_even_if_it_reaches_into_it() -> None:
    assert _mask([(0, 5), (5, 8)], (3, 8), special=(0,)) == [0, 1]
    assert _mask([(0, 5), (5, 8)], (3, 8)) == [1, 1]


def test_no_tokens_give_an_empty_mask() -> None:
    assert mask_of_spans(np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=bool), [(0, 1)]).tolist() == []


def _end(text: str, offsets: list[tuple[int, int]], ends: set[int], eos: set[int], at: int) -> range | None:
    index = np.arange(len(offsets))
    return end_of_turn(text, np.array(offsets), np.isin(index, list(ends)), np.isin(index, list(eos)), at)


def test_the_end_of_turn_is_the_first_special_token_after_white_space_only() -> None:
    text = "ab \n<e>\n"
    offsets = [(0, 2), (2, 4), (4, 7), (7, 8)]
    assert _end(text, offsets, {2}, set(), 2) == range(1, 3)
    assert _end(text, offsets, {2}, {2}, 2) == range(1, 3)
    assert _end("ab x<e>\n", offsets, {2}, set(), 2) is None
    assert _end(text, offsets, set(), set(), 2) is None


def test_a_token_that_holds_the_end_of_the_answer_may_hold_white_space_after_it() -> None:
    offsets = [(0, 4), (4, 7)]
    assert _end("ab\n\n<e>", offsets, {1}, set(), 2) == range(0, 2)
    assert _end("ab\nx<e>", offsets, {1}, set(), 2) is None


def test_an_end_of_turn_that_swallows_the_white_space_of_the_answer() -> None:
    # The answer is "a " and the special token reports " <e>".
    assert _end("a <e>", [(0, 1), (1, 5)], {1}, set(), 2) == range(1, 2)


def test_adjacent_special_tokens_count_only_if_they_lead_to_eos() -> None:
    text, offsets = "a<e><f><g>", [(0, 1), (1, 4), (4, 7), (7, 10)]
    assert _end(text, offsets, {1, 2, 3}, {2}, 1) == range(1, 3)
    assert _end(text, offsets, {1, 2, 3}, {3}, 1) == range(1, 4)
    assert _end(text, offsets, {1, 2, 3}, set(), 1) == range(1, 2)
    assert _end(text, offsets, {1, 3}, {3}, 1) == range(1, 2)


@settings(max_examples=50, deadline=None)
@given(members=st.sets(st.integers(0, 40)), ids=st.lists(st.integers(0, 60)))
def test_a_set_of_ids_is_looked_up_for_a_row_at_once(members: set[int], ids: list[int]) -> None:
    found = IdSet(members).has(np.array(ids, np.int32))
    assert found.tolist() == [number in members for number in ids]
