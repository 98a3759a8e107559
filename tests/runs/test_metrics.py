"""metrics.jsonl: appended line by line, readable after a crash and after a resumed run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.runs.metrics import (
    append_metrics,
    elapsed_seconds,
    evaluation_rows,
    forget_after,
    logged_keys,
    read_metrics,
    seen_so_far,
    series,
    smoothed,
    training_rows,
)


def test_rows_read_back_in_order(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    append_metrics(path, {"step": 1, "loss": 2.5})
    append_metrics(path, {"step": 2, "loss": float("nan")})
    log = read_metrics(path)
    assert log.rows == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": "NaN"}]
    assert log.unreadable_lines == 0


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none") == ([], 0)


def test_a_torn_line_is_left_out_and_the_next_line_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"step": 1, "loss": 2.0})
    with open(path, "ab") as stream:
        stream.write(b'{"step": 2, "lo')
    assert read_metrics(path) == ([{"step": 1, "loss": 2.0}], 1)
    append_metrics(path, {"step": 2, "loss": 1.0})
    assert read_metrics(path) == ([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], 1)


@given(st.integers(0, 200), st.binary(max_size=20))
@settings(deadline=None, max_examples=60)
def test_every_cut_and_any_garbage_keeps_the_whole_lines(tmp_path_factory, cut, garbage):
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.unlink(missing_ok=True)
    for step in range(4):
        append_metrics(path, {"step": step, "note": "步"})
    content = path.read_bytes()[:cut]
    path.write_bytes(content + b"\n" + garbage)
    whole = content.count(b"\n") + (content[-1:] == b"}")
    steps = [row.get("step") for row in read_metrics(path).rows]
    assert steps[:whole] == list(range(whole))


def test_lines_that_are_not_objects_are_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'[1]\n\n{"step": 1}\n\xff\n3\n')
    assert read_metrics(path) == ([{"step": 1}], 3)


def test_a_resumed_run_replaces_the_steps_it_did_again():
    rows = [
        *({"step": step, "loss": 10 + step} for step in range(1, 6)),
        {"step": 5, "eval_loss": 3.0},
        *({"step": step, "loss": 20 + step} for step in range(3, 5)),
    ]
    assert [row["loss"] for row in training_rows(rows)] == [11, 12, 23, 24]
    assert [row["eval_loss"] for row in evaluation_rows(rows)] == [3.0]


def test_an_evaluation_that_is_repeated_at_a_step_counts_once():
    rows = [{"step": 0, "eval_loss": 3.0}, {"step": 8, "eval_loss": 2.0}, {"step": 8, "eval_loss": 2.1}]
    assert [row["eval_loss"] for row in evaluation_rows(rows)] == [3.0, 2.1]


def test_series_separates_what_is_not_finite():
    rows = [
        {"step": 1, "loss": 2},
        {"step": 2, "loss": "NaN"},
        {"step": 3},
        {"loss": 1},
        {"step": 4, "loss": None},
    ]
    assert series(rows, "loss") == ([1.0], [2.0], [2.0])


def test_smoothing_by_hand():
    # Five points: windows of one on each side, shrinking to the end points themselves.
    assert smoothed([3.0, 6.0, 0.0, 3.0, 9.0]) == pytest.approx([3.0, 3.0, 3.0, 4.0, 9.0])


@given(st.lists(st.floats(-1e3, 1e3), max_size=200))
@settings(deadline=None, max_examples=50)
def test_smoothing_stays_within_the_points(values):
    result = smoothed(values)
    assert len(result) == len(values)
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for value in result)
    assert not any(math.isnan(value) for value in result)


def test_smoothing_leaves_a_line_alone():
    line = [0.5 * step for step in range(100)]
    assert smoothed(line) == pytest.approx(line)


def test_logged_keys_are_those_with_numbers():
    rows = [
        {"step": 1, "epoch": 0.1, "loss": 1.0, "note": "x"},
        {"step": 2, "time_seconds": 3.0, "kl": "NaN"},
    ]
    assert logged_keys(rows) == ["loss", "kl"]


def test_the_clock_of_a_resumed_run_goes_on():
    """Killed after step 4 (40 s), resumed from step 2 (20 s): step 3 comes 15 s into the second part."""
    clock = [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0), (3, 15.0), (4, 25.0), (5, 35.0)]
    rows = [{"step": step, "time_seconds": seconds} for step, seconds in clock]
    assert elapsed_seconds(rows) == {1: 10.0, 2: 20.0, 3: 35.0, 4: 45.0, 5: 55.0}


def test_running_totals_count_a_repeated_step_once():
    rows = [{"step": step, "target_tokens": 10 * step} for step in (1, 2, 3, 2, 3)]
    assert seen_so_far(rows, "target_tokens") == {1: 10, 2: 30, 3: 60}


def test_lines_of_later_steps_are_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    forget_after(path, 2)  # nothing is there yet
    kept = '{"step": 1, "a": "é"}\n{"what": "no step"}\n{"step": 2}\n'
    path.write_text(kept + '{"step": 3}\n{"step": 2.5}\n{"step": 3, "torn', encoding="utf-8")
    forget_after(path, 2)
    assert path.read_text(encoding="utf-8") == kept
    assert [file.name for file in tmp_path.iterdir()] == ["samples.jsonl"]
