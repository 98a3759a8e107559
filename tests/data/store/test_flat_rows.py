"""Rows in flat arrays come back as they went in, in memory and from files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.row_selection import RowSelection
from hf_align.data.store.flat_rows import Arrays, FlatRows, flatten, in_memory, map_files, write_files
from hf_align.types import (
    Comparison,
    ComparisonRow,
    Example,
    LabelledRow,
    LabelledText,
    Message,
    Row,
    TokenizedRow,
)

Kept = tuple[TokenizedRow | ComparisonRow, Example | Comparison]

_text = st.text(st.characters(), max_size=6)  # lone surrogates included: names of files may hold them
_example = st.one_of(
    st.builds(lambda text: {"text": text}, _text),
    st.builds(lambda prompt, completion: {"prompt": prompt, "completion": completion}, _text, _text),
    st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), _text), min_size=1, max_size=3).map(
        lambda messages: {"messages": tuple(messages)}
    ),
)


_score = st.floats(allow_nan=False, allow_infinity=False)
_turns = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), _text), min_size=1, max_size=2).map(
    tuple
)


@st.composite
def sequences(draw: st.DrawFn, place: str) -> TokenizedRow:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), max_size=5))
    mask = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    return TokenizedRow(np.array(ids, np.int32), np.array(mask, bool), place)


@st.composite
def kept_rows(draw: st.DrawFn) -> Kept:
    place = "p:" + draw(_text)
    return draw(sequences(place)), Example(place, **draw(_example))


@st.composite
def kept_comparisons(draw: st.DrawFn) -> Kept:
    place = "p:" + draw(_text)
    branches = draw(st.lists(sequences(place), min_size=2, max_size=4))
    scores = draw(st.lists(_score, min_size=len(branches), max_size=len(branches)))
    margin = draw(st.none() | _score)
    prefix = draw(st.lists(st.integers(0, 2**31 - 1), max_size=3))
    row = ComparisonRow(np.array(prefix, np.int32), tuple(branches), np.array(scores), margin, place)
    answers = tuple(draw(_text) for _ in branches)
    return row, Comparison(place, draw(_text | _turns), answers, tuple(scores), margin)


@st.composite
def kept_labelled(draw: st.DrawFn) -> tuple[LabelledRow, LabelledText]:
    row = draw(sequences("p:" + draw(_text)))
    segments = draw(
        st.none() | st.lists(st.integers(0, 3), min_size=len(row), max_size=len(row)).map(np.int32)
        if len(row)
        else st.none()
    )
    labelled = LabelledRow(row.input_ids, row.target_mask, row.source, segment_ids=segments)
    return labelled, LabelledText(row.source, draw(_text), draw(st.none() | _text), draw(_text))


def _stored(pieces: Iterable[Arrays], folder: str | None, kind: type[Row]) -> FlatRows:
    if folder is None:
        return in_memory(pieces, "p:", kind)
    write_files(pieces, Path(folder))
    return map_files(Path(folder), "p:", kind)


def chunks_of(
    kept: st.SearchStrategy[Kept], kind: type[Row]
) -> st.SearchStrategy[tuple[type[Row], list[list[Kept]]]]:
    """Chunks of a source, whose rows are all of one kind."""
    return st.tuples(st.just(kind), st.lists(st.lists(kept, max_size=4), max_size=4))


@settings(max_examples=150, deadline=None)
@given(
    source=chunks_of(kept_rows(), TokenizedRow)
    | chunks_of(kept_comparisons(), ComparisonRow)
    | chunks_of(kept_labelled(), LabelledRow),
    on_disk=st.booleans(),
)
def test_rows_and_examples_come_back(source: tuple[type[Row], list[list[Kept]]], on_disk: bool) -> None:
    kind, chunks = source
    with tempfile.TemporaryDirectory() as folder:
        pieces = [flatten(chunk, "p:", keep_examples=True) for chunk in chunks]
        stored = _stored(pieces, folder if on_disk else None, kind)
    expected = [kept for chunk in chunks for kept in chunk]
    assert len(stored) == len(expected)
    for index, (row, example) in enumerate(expected):
        found = stored[index]
        assert type(found) is type(row)
        assert found.source == row.source
        for one, other in zip(_sequences(found), _sequences(row), strict=True):
            assert one.input_ids.tolist() == other.input_ids.tolist()
            assert one.target_mask.tolist() == other.target_mask.tolist()
            assert (one.input_ids.dtype, one.target_mask.dtype) == (np.int32, np.bool_)
            assert one.source == row.source
        if isinstance(row, ComparisonRow) and isinstance(found, ComparisonRow):
            assert (found.prefix.tolist(), found.prefix.dtype) == (row.prefix.tolist(), np.int32)
            assert (found.scores.tolist(), found.scores.dtype) == (row.scores.tolist(), np.float64)
            assert (found.margin, found.reference_logps) == (row.margin, None)
        if isinstance(row, LabelledRow) and isinstance(found, LabelledRow):
            segments = [None if one.segment_ids is None else one.segment_ids.tolist() for one in (found, row)]
            assert segments[0] == segments[1] and (found.label, found.number) == (-100, -1)
            assert found.segment_ids is None or found.segment_ids.dtype == np.int32
        assert stored.example(index) == example


def _sequences(row: TokenizedRow | ComparisonRow) -> tuple[TokenizedRow, ...]:
    return row.branches if isinstance(row, ComparisonRow) else (row,)


def _rows(*ids: list[int]) -> FlatRows:
    kept = [
        (TokenizedRow(np.array(i, np.int32), np.array(i) > 5, f"p:{i}"), Example("", text="")) for i in ids
    ]
    return in_memory([flatten(kept, "p:", keep_examples=False)], "p:")


def test_a_selection_numbers_the_rows_of_all_sources() -> None:
    selection = RowSelection([_rows([1], [2]), _rows(), _rows([3, 7])], np.array([2, 0, 2, 1]))
    assert [row.input_ids.tolist() for row in selection] == [[3, 7], [1], [3, 7], [2]]
    assert selection[0].target_mask.tolist() == [False, True]
    assert selection[-1].source == "p:[2]"
    assert [row.source for row in selection[1:3]] == ["p:[1]", "p:[3, 7]"]
    for index in (4, -5):
        with pytest.raises(IndexError):
            selection[index]
    with pytest.raises(LookupError, match="not kept"):
        selection.examples[0]


def test_rows_are_the_callers_own() -> None:
    rows = _rows([1, 2])
    rows[0].input_ids[:] = 9
    rows[0].target_mask[:] = True
    assert rows[0].input_ids.tolist() == [1, 2]
    assert not rows[0].target_mask.any()


def test_the_fingerprint_of_a_selection_sees_rows_targets_and_order() -> None:
    sources = [_rows([1], [8, 9]), _rows([3])]
    other_mask = flatten(
        [(TokenizedRow(np.array([3], np.int32), np.array([True]), ""), Example("", text=""))],
        "",
        keep_examples=False,
    )
    selections = [
        RowSelection(sources, np.array([0, 1, 2])),
        RowSelection(sources, np.array([1, 0, 2])),
        RowSelection(sources, np.array([0, 1])),
        RowSelection(sources, np.array([0, 1, 2, 2])),
        RowSelection([sources[0], in_memory([other_mask], "")], np.array([0, 1, 2])),
    ]
    assert len({selection.fingerprint for selection in selections}) == 5
    # How the rows are spread over sources does not matter.
    whole = RowSelection([_rows([1], [8, 9], [3])], np.array([0, 1, 2]))
    assert whole.fingerprint == selections[0].fingerprint


def test_ends_go_on_over_pieces_in_files(tmp_path: Path) -> None:
    pieces = [
        flatten(
            [(TokenizedRow(np.array([n], np.int32), np.array([False]), f"p:{n}"), Example("", text="x"))],
            "p:",
            keep_examples=True,
        )
        for n in (4, 5, 6)
    ]
    write_files(pieces, tmp_path)
    assert np.fromfile(tmp_path / "token_ends.bin", "<i8").tolist() == [1, 2, 3]
    assert np.fromfile(tmp_path / "tokens.bin", "<i4").tolist() == [4, 5, 6]


def _comparison(
    prefix: list[int],
    branches: list[list[int]],
    scores: list[float],
    margin: float | None = None,
    mask: int = 5,
) -> ComparisonRow:
    rows = tuple(TokenizedRow(np.array(ids, np.int32), np.array(ids) > mask, "p:") for ids in branches)
    return ComparisonRow(np.array(prefix, np.int32), rows, np.array(scores), margin, "p:")


def test_digests_of_comparisons_see_layout_scores_and_margin() -> None:
    rows: list[TokenizedRow | ComparisonRow] = [
        _comparison([1], [[2, 6], [2, 7]], [1, 0]),
        _comparison([1], [[2, 6], [2, 7]], [0, 1]),
        _comparison([1], [[2, 6], [2, 7]], [1, 0], margin=0.0),
        _comparison([1], [[2, 6], [2, 7]], [1, 0], margin=1.0),
        _comparison([1], [[2, 6], [2, 7]], [1, 0], mask=6),
        _comparison([], [[1, 2, 6], [2, 7]], [1, 0]),  # the same tokens in another layout
        _comparison([1, 2], [[6], [2, 7]], [1, 0]),
        TokenizedRow(np.array([1, 2, 6, 2, 7], np.int32), np.array([1, 2, 6, 2, 7]) > 5, "p:"),
    ]
    nothing = Example("", text="")
    digests = in_memory([flatten([(row, nothing) for row in rows], "p:", keep_examples=False)], "p:").digests
    ids, everything = digests[:, :2].tolist(), digests[:, 2:].tolist()
    assert len({tuple(words) for words in everything}) == 8
    # A copy with other scores, or other targets, is a copy.
    assert [ids.index(words) for words in ids] == [0, 0, 0, 0, 0, 5, 6, 7]


def test_rows_of_one_sequence_have_the_digests_of_their_ids() -> None:
    from hashlib import blake2b

    digest = _rows([1, 7]).digests.tobytes()
    ids, with_targets = np.array([1, 7], "<i4").tobytes(), np.array([1, ~7], "<i4").tobytes()
    assert digest == b"".join(blake2b(part, digest_size=16).digest() for part in (ids, with_targets))


def test_digests_of_labelled_rows_see_segments() -> None:
    ids, nothing = np.array([1, 2, 3], np.int32), np.zeros(3, bool)
    segments = (None, [0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 0])
    rows = [
        LabelledRow(ids, nothing, "p:", segment_ids=None if one is None else np.array(one, np.int32))
        for one in segments
    ]
    text = LabelledText("p:", "a", None, "b")
    stored = in_memory([flatten([(row, text) for row in rows], "p:", keep_examples=False)], "p:", LabelledRow)
    assert len({tuple(words) for words in stored.digests[:, :2].tolist()}) == len(segments)
