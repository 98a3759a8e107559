"""The one error type for mistakes a user can make and fix.

Commands print a ``UserError`` without a traceback and exit with status 2. Every other exception is a
bug in this package or in one of its dependencies and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a recipe, on the command line, in the data or in the environment.

    The message names the place (file and line, key, row), what was found, what was expected and, where
    there is one, the nearest valid name.
    """


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the name in ``valid`` nearest to ``found``, or an empty string."""
    nearest = difflib.get_close_matches(found, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
