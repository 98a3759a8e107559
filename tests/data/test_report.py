"""The data report: percentiles by hand, totals, and what a person and a file get to see."""

from __future__ import annotations

import json

from hf_align.data.report import DataReport, SourceReport


def _source(name: str, lengths: list[int], **counts: int) -> SourceReport:
    source = SourceReport(name, format="text", **counts)
    for length in lengths:
        source.add_length(length, f"{name}:{length}")
    return source


def test_percentiles_are_lengths_that_occur() -> None:
    lengths = _source("a", list(range(1, 102))).to_dict()["lengths"]
    # Of 1 to 101: the 51st, the 91st and the 100th.
    assert lengths == {"p50": 51, "p90": 91, "p99": 100, "max": 101}
    assert _source("a", [5, 3]).to_dict()["lengths"] == {"p50": 5, "p90": 5, "p99": 5, "max": 5}
    assert _source("a", []).to_dict()["lengths"] == {}


def test_the_longest_row_is_known_by_place() -> None:
    source = _source("a", [3, 9, 9, 4])
    assert (source.longest, source.longest_place) == (9, "a:9")


def test_totals_cover_all_sources_and_everything_is_json() -> None:
    report = DataReport(
        [_source("a", [1, 2], read=3, kept=2, malformed=1), _source("b", [10], read=1, kept=1, tokens=10)]
    )
    loaded = json.loads(json.dumps(report.to_dict()))
    assert loaded["total"]["read"] == 4
    assert loaded["total"]["tokens"] == 10
    assert loaded["total"]["lengths"] == {"p50": 2, "p90": 10, "p99": 10, "max": 10}
    assert [source["name"] for source in loaded["sources"]] == ["a", "b"]


def test_only_the_first_problems_are_kept() -> None:
    source = SourceReport("a")
    for line in range(20):
        source.add_malformed(f"a:{line}", "torn")
    assert source.malformed == 20
    assert source.problems == [f"a:{line}: torn" for line in range(5)]


def test_the_summary_is_an_aligned_table_with_problems_below() -> None:
    first = _source("long/name.jsonl", [7], read=1234, kept=1233, malformed=1, tokens=98765)
    first.problems.append("long/name.jsonl:3: torn")
    second = _source("b", [3], read=1, no_target=1)
    second.unanswered.append("b:1: no token is a target")
    lines = (
        DataReport([first, second], train_rows=1233, eval_rows=5, held_out=5, mixture=[1230, 3])
        .summary()
        .split("\n")
    )
    header, one, two, total = lines[:4]
    assert header.split()[:6] == ["source", "use", "format", "read", "kept", "malformed"]
    assert len(one) == len(two) == len(header)
    assert [line[header.index("read") : header.index("read") + 4].strip() for line in (header, two)] == [
        "read",
        "1",
    ]
    assert one.split()[3:6] == ["1,234", "1,233", "1"]
    assert total.split()[:3] == ["total", "1,235", "1,233"]
    assert lines[5] == (
        "1,233 training rows an epoch (1,230 + 3), 5 evaluation rows (5 held out of the training data)"
    )
    assert lines[6:] == [
        "long/name.jsonl: 1 malformed, the first:",
        "  long/name.jsonl:3: torn",
        "b: 1 without a target, the first:",
        "  b:1: no token is a target",
    ]


def test_clearing_sets_every_count_back() -> None:
    source = _source("a", [3], read=5)
    source.add_malformed("a:1", "torn")
    source.clear()
    assert source == SourceReport("a", format="text")
