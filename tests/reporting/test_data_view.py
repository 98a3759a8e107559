"""The data report as a table."""

from __future__ import annotations

import pytest

from hf_align.data.report import DataReport, SourceReport
from hf_align.reporting.data_view import data_view, totals


def source(
    name: str, *, role: str = "train", lengths: tuple[int, ...] = (3, 5), **counts: int
) -> SourceReport:
    report = SourceReport(name, role, "alpaca", **counts)
    for place, length in enumerate(lengths):
        report.add_length(length, f"{name}:{place}")
    return report


def table(view) -> dict[str, dict[str, str]]:
    return {row["name"]: dict(zip(view["columns"][1:], row["cells"], strict=True)) for row in view["rows"]}


def test_one_clean_source():
    known = source("a.jsonl", read=2, kept=2, tokens=8, target_tokens=3, duplicates=0)
    report = DataReport([known], train_rows=2)
    view = data_view(report.to_dict())
    assert table(view) == {
        "a.jsonl": {
            **{"format": "alpaca", "read": "2", "kept": "2", "tokens": "8", "targets": "3"},
            **{"median": "5", "p90": "5", "p99": "5", "longest": "5"},
        }
    }
    assert view["notes"] == [
        "No row was malformed, too long, dropped, truncated, without a target or a duplicate.",
        "2 training rows an epoch, 0 evaluation rows.",
    ]
    assert view["tables"] == []


def test_several_sources_have_a_total_and_troubles_get_columns():
    first = source("a.jsonl", read=1500, kept=1498, tokens=8, target_tokens=3, no_target=1)
    first.unanswered.append("a.jsonl:9")
    first.add_malformed("a.jsonl:7", "column 'output': empty")
    held = source("b.jsonl", role="eval", read=1, kept=1, tokens=5, target_tokens=2)
    report = DataReport([first, held], train_rows=1398, eval_rows=101, held_out=100, leaked=1)
    view = data_view(report.to_dict())
    rows = table(view)
    assert rows["a.jsonl"]["malformed"] == "1"
    assert rows["b.jsonl"]["use"] == "eval"
    assert rows["total"] | {"use": "", "format": ""} == rows["total"]
    assert (rows["total"]["read"], rows["total"]["no target"]) == ("1,501", "1")
    assert view["notes"][1:] == [
        "1,398 training rows an epoch, 101 evaluation rows (100 held out of the training data).",
        "1 evaluation row is an exact copy of training rows: the loss on them flatters.",
    ]
    malformed, unanswered = view["tables"]
    assert malformed["rows"] == [["a.jsonl:7", "column 'output': empty"]]
    assert unanswered["rows"] == [["a.jsonl:9"]]


def test_a_mixture_shows_the_rows_of_an_epoch():
    sources = [source("a", read=4, kept=4), source("b", read=2, kept=2), source("c", role="eval")]
    report = DataReport(sources, train_rows=7, mixture=[4, 3])
    rows = table(data_view(report.to_dict()))
    assert [rows[name]["per epoch"] for name in ("a", "b", "c", "total")] == ["4", "3", "–", "7"]


def test_a_stream_has_no_number_of_rows():
    view = data_view(DataReport([source("a", read=4)]).to_dict())
    assert view["notes"][-1] == "A stream of training rows, 0 evaluation rows."


def test_totals_count_the_training_sources():
    sources = [source("a", tokens=10, target_tokens=4), source("b", role="eval", tokens=5, target_tokens=5)]
    assert totals(DataReport(sources, train_rows=3).to_dict()) == {
        "rows": 3,
        "tokens": 10,
        "target_tokens": 4,
    }
    assert totals(None) == {"rows": None, "tokens": None, "target_tokens": None}


@pytest.mark.parametrize("broken", [None, [], "x", {}, {"sources": 3}, {"sources": [3]}, {"sources": []}])
def test_nothing_to_show(broken):
    assert data_view(broken) is None


def test_partial_sources_show_dashes():
    rows = table(data_view({"sources": [{"name": "a"}], "total": None}))
    assert set(rows["a"].values()) == {"–", ""}


def test_malformed_comparisons_are_listed_by_kind():
    first, second = source("a.jsonl", read=9, kept=5), source("b.jsonl", read=3, kept=2)
    for place, kind in (("a:1", "identical answers"), ("a:2", "identical answers"), ("a:3", "empty answer")):
        first.add_malformed(place, "reason", kind)
    first.add_malformed("a:4", "torn")
    second.add_malformed("b:1", "torn")
    kinds, places = data_view(DataReport([first, second]).to_dict())["tables"]
    assert kinds["rows"] == [
        ["a.jsonl", "identical answers", "2"],
        ["a.jsonl", "empty answer", "1"],
        ["a.jsonl", "other", "1"],
    ]
    assert len(places["rows"]) == 5


@pytest.mark.parametrize("broken", [3, [], {"x": "y"}, {"x": None}])
def test_broken_kinds_are_left_out(broken):
    assert data_view({"sources": [{"name": "a", "malformed_kinds": broken}]})["tables"] == []
