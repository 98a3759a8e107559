"""The data report of a run as tables of short strings, for the page and for the model card.

Reads the dictionary that ``hf_align.data`` puts into the run record; from a partial one it shows what is
there, from none at all nothing. Counting and judging rows happens there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.runs import formatting

# (key, heading). A column of zeros becomes a word in a note.
_TROUBLES = (
    ("malformed", "malformed"),
    ("overlong", "too long"),
    ("dropped", "dropped"),
    ("truncated", "truncated"),
    ("no_target", "no target"),
    ("duplicates", "duplicates"),
)
# Columns that are shown where there is something in them, and no word elsewhere.
_LEFT_OUT = (("unlabelled", "without a class"), ("repeated", "repeats left out"))
_LENGTHS = (("p50", "median"), ("p90", "p90"), ("p99", "p99"), ("max", "longest"))


CAPTION = (
    "Counts of rows; tokens and targets of kept rows; lengths of well-formed rows in tokens, before any cut."
)


def first_number(record: Mapping[str, Any], key: str) -> float | None:
    """``record[key]`` as a finite number, or None."""
    return formatting.finite(record.get(key))


def totals(report: Any) -> dict[str, float | None]:
    """``rows`` of an epoch, ``tokens`` and ``target_tokens`` of the training sources; None where unknown."""
    if not isinstance(report, dict):
        return {"rows": None, "tokens": None, "target_tokens": None}
    training = [source for source in _sources(report) if source.get("role", "train") == "train"]
    return {
        "rows": first_number(report, "train_rows"),
        "tokens": _sum(training, "tokens"),
        "target_tokens": _sum(training, "target_tokens"),
    }


def data_view(report: Any) -> dict[str, Any] | None:
    """``caption``, ``columns``, ``rows`` (``name``, ``cells``, ``total``), ``notes``, ``tables`` of bad rows.

    None if ``report`` names no source.
    """
    sources = _sources(report) if isinstance(report, dict) else []
    if not sources:
        return None
    total = report["total"] if isinstance(report.get("total"), dict) else {}
    counted = [*sources, total]
    troubles = [
        (key, name)
        for key, name in (*_TROUBLES, *_LEFT_OUT)
        if any(first_number(row, key) for row in counted)
    ]
    mixture = report.get("mixture")
    training = [source for source in sources if source.get("role", "train") == "train"]
    mixed = isinstance(mixture, list) and len(mixture) == len(training) and len(training) > 1
    used = ["use"] if any(source.get("role", "train") != "train" for source in sources) else []
    columns = ["source", *used, "format", "read", *(name for _, name in troubles), "kept"]
    columns += ["per epoch"] if mixed else []
    columns += ["tokens", "targets", *(name for _, name in _LENGTHS)]
    rows = []
    for source in sources:
        epoch = formatting.MISSING
        if mixed and source.get("role", "train") == "train":
            epoch = formatting.count(mixture[next(n for n, one in enumerate(training) if one is source)])
        words = ([str(source.get("role") or "")] if used else []) + [str(source.get("format") or "")]
        cells = words + _cells(source, troubles, [epoch] if mixed else [])
        rows.append({"name": str(source.get("name") or "unnamed"), "cells": cells, "total": False})
    if len(sources) > 1 and total:
        epoch = formatting.count(report.get("train_rows"))
        rows.append(
            {
                "name": "total",
                "cells": ["", "", *_cells(total, troubles, [epoch] if mixed else [])],
                "total": True,
            }
        )
    return {
        "caption": CAPTION,
        "columns": columns,
        "rows": rows,
        "notes": [*_notes(report, {key for key, _ in troubles}, total or sources[0]), *_changes(sources)],
        "tables": _problem_tables(sources),
    }


def _sources(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = report.get("sources")
    return [source for source in listed if isinstance(source, dict)] if isinstance(listed, list) else []


def _sum(sources: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [value for source in sources if (value := first_number(source, key)) is not None]
    return sum(values) if values else None


def _cells(row: Mapping[str, Any], troubles: Sequence[tuple[str, str]], epoch: list[str]) -> list[str]:
    found = row.get("lengths")
    lengths = found if isinstance(found, dict) else {}
    return [
        *(formatting.count(row.get(key)) for key in ("read", *(key for key, _ in troubles), "kept")),
        *epoch,
        *(formatting.count(row.get(key)) for key in ("tokens", "target_tokens")),
        *(formatting.count(lengths.get(key)) for key, _ in _LENGTHS),
    ]


def _notes(report: Mapping[str, Any], seen: set[str], counted: Mapping[str, Any]) -> list[str]:
    notes = []
    absent = [name for key, name in _TROUBLES if key not in seen and first_number(counted, key) is not None]
    if absent:
        words = absent[0] if len(absent) == 1 else f"{', '.join(absent[:-1])} or {absent[-1]}"
        words = words.replace("no target", "without a target").replace("duplicates", "a duplicate")
        notes.append(f"No row was {words}.")
    training, held_out = report.get("train_rows"), first_number(report, "held_out")
    if training is not None or "train_rows" in report:
        rows = (
            "A stream of training rows"
            if training is None
            else f"{formatting.count(training)} training rows an epoch"
        )
        evaluated = f"{formatting.count(report.get('eval_rows'))} evaluation rows"
        split = f" ({formatting.count(held_out)} held out of the training data)" if held_out else ""
        notes.append(f"{rows}, {evaluated}{split}.")
    leaked = first_number(report, "leaked")
    if leaked:
        copies = "row is an exact copy" if leaked == 1 else "rows are exact copies"
        notes.append(
            f"{formatting.count(leaked)} evaluation {copies} of training rows: the loss on them flatters."
        )
    return notes


def _changes(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was done to the rows of each source because the recipe asked for it."""
    found = [(source.get("name") or "unnamed", source.get("changed")) for source in sources]
    return [
        f"{name}: {formatting.count(rows)} rows: {change}."
        for name, changes in found
        for change, rows in (changes.items() if isinstance(changes, dict) else ())
    ]


def _problem_tables(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first malformed rows and the first rows without a target, each with its place."""
    malformed, unanswered = [], []
    for source in sources:
        problems, places = source.get("problems"), source.get("unanswered")
        for problem in problems if isinstance(problems, list) else []:
            place, found, reason = str(problem).partition(": ")
            malformed.append([place, reason] if found else ["", place])
        unanswered += [[str(place)] for place in places] if isinstance(places, list) else []
    tables = []
    kinds = _kinds(sources)
    if kinds:
        columns = ["source", "kind", "rows"]
        tables.append({"title": "Malformed rows by kind", "columns": columns, "rows": kinds})
    if malformed:
        tables.append(
            {
                "title": "Malformed rows, the first of each source",
                "columns": ["place", "reason"],
                "rows": malformed,
            }
        )
    if unanswered:
        tables.append(
            {
                "title": "Rows without a target, the first of each source",
                "columns": ["place"],
                "rows": unanswered,
            }
        )
    return tables


def _kinds(sources: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """(source, kind, rows) of malformed rows where the report tells kinds, the others of a source last."""
    rows = []
    for source in sources:
        kinds = source.get("malformed_kinds")
        found = kinds.items() if isinstance(kinds, dict) else ()
        known = {str(kind): number for kind, value in found if (number := formatting.finite(value))}
        other = (first_number(source, "malformed") or 0) - sum(known.values())
        if known and other > 0:
            known["other"] = other
        name = str(source.get("name") or "unnamed")
        rows += [[name, kind, formatting.count(number)] for kind, number in known.items()]
    return rows
