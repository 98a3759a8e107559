"""What the stages that measure held-out rows before and after training have in common in the report.

A row of the table of metrics, and how an adapter was merged. The metrics themselves are in each stage's view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hf_align.reporting.run_view import Fact
from hf_align.runs import formatting
from hf_align.runs.schema import BeforeAndAfter, Record

Row = Mapping[str, Any]


def held_out_row(name: str, before: Row, after: Row, key: str, form: Callable[[Any], str]) -> dict[str, Any]:
    """``name`` and ``cells``: metric ``key`` before, after, and its interval after, written by ``form``."""
    between = formatting.between(after.get(f"{key}_interval"), form)
    return {"name": name, "cells": [form(before.get(key)), form(after.get(key)), between]}


def accuracy_fact(evaluations: BeforeAndAfter) -> list[Fact]:
    """The headline of what tells answers or texts apart; an empty list before it was evaluated."""
    before, after = evaluations.before, evaluations.after
    shares = [formatting.share(part["accuracy"]) for part in (before, after) if "accuracy" in part]
    if not shares:
        return []
    limits = formatting.between(after.get("accuracy_interval"), formatting.share)
    return [Fact("Held-out accuracy", " → ".join(shares), f"95 %: {limits}" if limits else "before training")]


def merged_setting(record: Row, metric: str, what: str) -> list[tuple[str, str]]:
    """What merging the adapter changed, as (what, in words); an empty list where nothing was merged.

    ``metric``: under which name the largest difference stands in the record; ``what`` differs.
    """
    difference = formatting.finite(Record.of(record).merge.get(metric))
    if difference is None:
        return []
    return [
        (
            "Saved",
            f"the adapter merged into its base; {what} differ by up to {difference:.1g} standard deviations "
            "from those of the adapter",
        )
    ]
