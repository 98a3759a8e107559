"""Running moments against NumPy on all scores at once; penalty and clipping by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.rewards.scaling import RunningMoments, clip_scores, normalize_scores, penalize_missing_eos

CHUNKS = st.lists(st.lists(st.floats(-1e6, 1e6), max_size=7), max_size=8)


@settings(deadline=None, max_examples=60)
@given(CHUNKS)
def test_moments_are_those_of_all_scores_at_once(chunks):
    moments = RunningMoments()
    for chunk in chunks:
        moments = moments.updated(np.array(chunk, dtype=np.float64))
    together = np.array([score for chunk in chunks for score in chunk])
    assert moments.count == len(together)
    if len(together):
        assert moments.mean == pytest.approx(together.mean(), rel=1e-9, abs=1e-6)
    if len(together) > 1:
        assert moments.std == pytest.approx(together.std(ddof=1), rel=1e-6, abs=1e-6)
    else:
        assert moments.std == 1.0


def test_moments_by_hand():
    moments = RunningMoments().updated(np.array([1.0, 3.0])).updated(np.array([8.0]))
    # Mean 4; squares 9 + 1 + 16 = 26, divided by 2.
    assert (moments.count, moments.mean) == (3, 4.0)
    assert moments.squares == pytest.approx(26.0)
    assert moments.std == pytest.approx(13**0.5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_do_not_get_in(bad):
    with pytest.raises(ValueError, match="not finite"):
        RunningMoments().updated(np.array([1.0, bad]))


def test_the_state_survives_a_file_to_the_last_bit():
    moments = RunningMoments().updated(np.array([0.1, 0.2, 1 / 3]))
    stored = json.loads(json.dumps(moments.to_dict()))
    assert RunningMoments.from_dict(stored) == moments


def test_normalised_scores():
    moments = RunningMoments(count=3, mean=4.0, squares=8.0)  # standard deviation 2
    scores = np.array([4.0, 8.0])
    np.testing.assert_allclose(normalize_scores(scores, moments), [0.0, 2.0], atol=1e-7)
    np.testing.assert_allclose(normalize_scores(scores, moments, shift=False), [2.0, 4.0], atol=1e-7)


def test_equal_scores_are_not_divided_by_zero():
    scores = np.array([5.0, 5.0])
    assert normalize_scores(scores, RunningMoments().updated(scores)).tolist() == [0.0, 0.0]


def test_clipping():
    scores = np.array([-3.0, 0.5, 3.0])
    assert clip_scores(scores, 1).tolist() == [-1.0, 0.5, 1.0]
    assert clip_scores(scores, None).tolist() == [-3.0, 0.5, 3.0]
    with pytest.raises(ValueError, match="at least 0"):
        clip_scores(scores, -1)


def test_penalty_for_answers_that_were_cut_off():
    scores = np.array([1.0, 1.0, -1.0])
    assert penalize_missing_eos(scores, [True, False, False], 0.75).tolist() == [1.0, 0.25, -1.75]
    assert penalize_missing_eos(scores, [True, False, False], None).tolist() == [1.0, 1.0, -1.0]
    assert scores.tolist() == [1.0, 1.0, -1.0]
