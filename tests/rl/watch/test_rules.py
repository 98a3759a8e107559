"""The rules of the watch over the reward: when a limit counts as passed, since when, and what is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.rl.watch.recipe import WatchConfig
from hf_align.rl.watch.rules import Alarm, Row, alarms, describe, good_checkpoint, last_good, watched_row

OFF: dict[str, Any] = {
    "watch_max_kl": None,
    "watch_max_length_ratio": None,
    "watch_max_repetition_rise": None,
}


def limits(**given: Any) -> WatchConfig:
    """One rollout a window, two in a row; a second reward, and no limit but its own unless it is given."""
    defaults = {"watch_reward_functions": ["judges.py:honest"], "watch_window": 1, "watch_patience": 2}
    return WatchConfig(**{**defaults, **OFF, **given})


def rows(answers: int = 10_000, deviation: float = 1.0, **series: list[float]) -> list[Row]:
    """One rollout for each value; what is not given stays as it is, and the reward rises by 1 a rollout."""
    count = len(next(iter(series.values())))
    given = {
        "reward": [float(i) for i in range(count)],
        "kl": [1.0] * count,
        "length": [10.0] * count,
        "repetition": [0.0] * count,
        "honest": [0.0] * count,
        **series,
    }
    return [
        watched_row(
            i + 1,
            answers,
            {
                "reward/total": given["reward"][i],
                "kl": given["kl"][i],
                "response_length": given["length"][i],
                "repetition": given["repetition"][i],
                "watch/honest": given["honest"][i],
                "watch_std/honest": deviation,
                "entropy": 3.0,
            },
        )
        for i in range(count)
    ]


def only(found: list[Alarm]) -> Alarm:
    assert len(found) == 1, found
    return found[0]


def test_a_row_has_what_the_rules_look_at_and_no_more() -> None:
    assert set(rows(honest=[0.0])[0]) == {
        *("rollout", "answers", "reward/total", "kl", "response_length", "repetition"),
        *("watch/honest", "watch_std/honest"),
    }


def test_a_watch_reward_that_falls_while_the_reward_rises() -> None:
    # Below its best by 0.1, 0.6 and 0.7 deviations: the limit of 0.5 is passed at rollouts 4 and 5.
    found = only(alarms(rows(honest=[0.0, 1.0, 0.9, 0.4, 0.3, 0.2]), limits()))
    assert (found.figure, found.rollout, found.then) == ("watch/honest", 5, 2)
    assert (found.before, found.now) == (1.0, 0.3)
    assert found.change == pytest.approx(0.7) and found.limit == 0.5
    # Rollout 3 is below the best by more than a standard error, sqrt(2 / 10,000).
    assert found.since == 3 and good_checkpoint(found.since) == 1


def test_the_unit_is_the_deviation_of_the_first_rollouts() -> None:
    log = rows(honest=[0.0, 1.0, 0.9, 0.4, 0.3, 0.2], deviation=2.0)
    assert alarms(log, limits()) == []
    assert only(alarms(log, limits(watch_max_drop=0.3))).limit == pytest.approx(0.6)


def test_windows_are_averaged() -> None:
    # Means of two: 1, 1, 0.5, 0, 0; a fall of 0.5 is not more than 0.5.
    found = only(alarms(rows(honest=[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), limits(watch_window=2)))
    assert (found.rollout, found.then, found.since) == (6, 2, 4)
    assert (found.before, found.now, found.change) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "log",
    [
        {"honest": [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]},  # never twice in a row
        {"honest": [0.0, 1.0, 2.0, 2.0, 3.0, 3.0]},
        {"honest": [1.0, 0.6, 0.6, 0.6, 0.6, 0.6]},  # by 0.4 only
        {"honest": [3.0, 2.0, 1.0, 0.0, 0.0, 0.0], "reward": [3.0, 2.0, 1.0, 0.0, 0.0, 0.0]},  # both fall
        {"honest": [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "reward": [1.0] * 6},  # nothing rises
    ],
)
def test_what_is_no_hacking(log: dict[str, list[float]]) -> None:
    assert alarms(rows(**log), limits()) == []


def test_a_fall_within_chance_does_not_count() -> None:
    log = {"honest": [1.0, 1.0, 0.2, 0.2, 0.2]}
    # Three standard errors of a difference of means of n answers with deviation 1: 3 sqrt(2 / n).
    assert alarms(rows(answers=28, **log), limits()) == []  # 0.80178
    found = only(alarms(rows(answers=32, **log), limits()))
    assert found.limit == pytest.approx(0.75)


def test_answers_that_all_score_the_same_leave_no_room_for_chance() -> None:
    assert alarms(rows(honest=[0.3] * 6, deviation=0.0), limits()) == []
    assert only(alarms(rows(honest=[0.3, 0.3, 0.2, 0.2, 0.2], deviation=0.0), limits())).rollout == 4


@pytest.mark.parametrize(
    ("log", "given", "expected"),
    [
        # Means of two: 10, 30, 40.
        ({"kl": [0.0, 20.0, 40.0, 40.0]}, {"watch_max_kl": 30, "watch_window": 2}, (4, 3, 40.0)),
        ({"length": [10.0, 30.0, 31.0, 32.0]}, {"watch_max_length_ratio": 3}, (4, 3, 3.2)),
        ({"length": [30.0, 9.0, 8.0]}, {"watch_max_length_ratio": 3}, (3, 2, 3.75)),
        ({"repetition": [0.1, 0.25, 0.35, 0.4]}, {"watch_max_repetition_rise": 0.2}, (4, 3, 0.3)),
    ],
)
def test_the_figures_of_the_answers(
    log: dict[str, list[float]], given: dict[str, Any], expected: tuple[int, int, float]
) -> None:
    patience = 1 if "kl" in log else 2
    found = only(alarms(rows(**log), limits(watch_patience=patience, **given)))
    assert (found.rollout, found.since) == expected[:2]
    assert found.change == pytest.approx(expected[2])
    assert alarms(rows(**log), limits()) == []


def test_a_limit_fires_once_and_limits_come_in_order() -> None:
    log = rows(
        honest=[1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], kl=[1.0, 40.0, 40.0, 40.0, 1.0, 40.0, 40.0, 40.0]
    )
    found = alarms(log, limits(watch_max_kl=30))
    assert [(one.figure, one.rollout) for one in found] == [("kl", 3), ("watch/honest", 4)]


def test_fewer_rollouts_than_a_window_say_nothing() -> None:
    options = limits(watch_window=4, watch_max_kl=30)
    assert alarms(rows(kl=[99.0] * 3), options) == [] and last_good(rows(kl=[99.0] * 3), options) == 0
    assert alarms([], options) == [] and last_good([], options) == 0


def test_a_watch_reward_that_came_later_is_judged_from_there() -> None:
    log = rows(honest=[5.0, 5.0, 1.0, 1.0, 0.0, 0.0])
    known = [{key: row[key] for key in row if "honest" not in key} for row in log[:2]] + log[2:]
    found = only(alarms(known, limits()))
    assert (found.rollout, found.before, found.since) == (6, 1.0, 5)


def test_the_last_good_checkpoint() -> None:
    options = limits()
    # The policy after k rollouts writes rollout k + 1; the best answers are those of rollout 4.
    log = rows(honest=[0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    assert [last_good(log[:n], options) for n in range(1, 8)] == [0, 1, 2, 3, 3, 3, 3]
    assert good_checkpoint(only(alarms(log, options)).since) == 3


def test_what_is_said_has_the_numbers_and_the_keys() -> None:
    log = rows(honest=[0.0, 1.0, 0.9, 0.4, 0.3], length=[10.0, 12.0, 14.0, 16.0, 40.0])
    said = describe(only(alarms(log, limits())), log, limits())
    for part in ("'honest' has fallen from 1 to 0.3", "watch_max_drop: 0.5", "reward rose: 1 -> 4"):
        assert part in said, said
    assert "length 12 -> 40" in said and "rollouts 2 against 5" in said
    options = limits(watch_max_length_ratio=3, watch_patience=1, watch_max_drop=None)
    said = describe(only(alarms(log, options)), log, options)
    assert "from 10 to 40 (a factor of 4; watch_max_length_ratio: 3" in said


SERIES = st.lists(
    st.tuples(*[st.floats(0, 1), st.floats(0, 1), st.floats(0, 60), st.floats(1, 40)]), max_size=16
)


@settings(deadline=None, max_examples=150)
@given(SERIES, st.integers(1, 4), st.integers(1, 3))
def test_the_past_decides_and_what_can_be_gone_back_to_is_kept(
    found: list[tuple[float, ...]], window: int, patience: int
) -> None:
    honest, reward, kl, length = ([values[i] for values in found] for i in range(4))
    log = rows(honest=honest, reward=reward, kl=kl, length=length, deviation=0.1)
    options = limits(watch_window=window, watch_patience=patience, watch_max_kl=30, watch_max_length_ratio=2)
    every = alarms(log, options)
    kept = [last_good(log[:n], options) for n in range(len(log) + 1)]
    assert kept == sorted(kept)
    for n in range(len(log) + 1):
        assert alarms(log[:n], options) == [one for one in every if one.rollout <= n]
        for one in every:
            if one.rollout >= n:
                assert kept[n] <= good_checkpoint(one.since), (n, one)
