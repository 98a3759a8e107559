"""Tables for the terminal: columns of equal width, in characters."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(table: Sequence[Sequence[str]], *, text_columns: int | None = None) -> list[str]:
    """Lines with columns of equal width, the first ``text_columns`` to the left and the rest to the right.

    ``table``: rows of as many cells each, at least one row. ``text_columns`` None: all to the left.
    """
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    text = len(widths) if text_columns is None else text_columns
    return [
        "  ".join(
            cell.ljust(width) if column < text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
