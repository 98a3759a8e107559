"""The one error type for mistakes a user can make and fix.

Commands print a ``UserError`` without a traceback and exit with status 2. Every other exception is a
bug in this package or in one of its dependencies and keeps its traceback.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a recipe, on the command line, in the data or in the environment.

    The message names the place (file and line, key, row), what was found, what was expected and, where
    there is one, the nearest valid name.
    """


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the name in ``valid`` nearest to ``found``, or an empty string.

    Only what slips of the keyboard explain is near, one for each six characters and one more, or a beginning
    that was left out (``block_size`` for ``boft_block_size``): a wrong guess is worse than none.
    """
    names = list(valid)
    slips = {name: _slips(found, name) for name in difflib.get_close_matches(found, names, n=5, cutoff=0.5)}
    nearest = min(slips, key=slips.__getitem__, default=None)
    if nearest is None or slips[nearest] > 1 + len(found) // 6:
        longer = [name for name in names if len(found) > 5 and name.endswith(f"_{found}")]
        nearest = longer[0] if len(longer) == 1 else None
    return f" Did you mean '{nearest}'?" if nearest else ""


def _slips(found: str, meant: str) -> int:
    """How many characters were left out, added, replaced or swapped with the next one (Damerau 1964)."""
    before: list[int] = []
    above = list(range(len(meant) + 1))
    for row, char in enumerate(found, start=1):
        line = [row]
        for column, other in enumerate(meant, start=1):
            cost = min(above[column] + 1, line[-1] + 1, above[column - 1] + (char != other))
            swapped = row > 1 and column > 1 and char == meant[column - 2] and found[row - 2] == other
            line.append(min(cost, before[column - 2] + 1) if swapped else cost)
        before, above = above, line
    return above[-1]


def without_controls(text: str) -> str:
    """The text with control characters spelled out, line ends and tabs aside: a terminal obeys them."""
    return "".join(
        char if char in "\n\t" or not unicodedata.category(char).startswith("C") else ascii(char)[1:-1]
        for char in text
    )
