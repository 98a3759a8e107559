"""What the stages that measure held-out rows before and after training have in common in the report.

A row of the table of figures, and how an adapter was merged. The figures themselves are in each stage's view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hf_align.reporting import formatting
from hf_align.reporting.run_view import mapping

Row = Mapping[str, Any]


def held_out_row(name: str, before: Row, after: Row, key: str, form: Callable[[Any], str]) -> dict[str, Any]:
    """``name`` and ``cells``: figure ``key`` before, after, and its interval after, written by ``form``."""
    between = formatting.between(after.get(f"{key}_interval"), form)
    return {"name": name, "cells": [form(before.get(key)), form(after.get(key)), between]}


def merged_setting(record: Row, figure: str, what: str) -> list[tuple[str, str]]:
    """What merging the adapter changed, as (what, in words); an empty list where nothing was merged.

    ``figure``: under which name the largest difference stands in the record; ``what`` differs.
    """
    difference = formatting.finite(mapping(record.get("merge")).get(figure))
    if difference is None:
        return []
    return [
        (
            "Saved",
            f"the adapter merged into its base; {what} differ by up to {difference:.1g} standard deviations "
            "from those of the adapter",
        )
    ]
