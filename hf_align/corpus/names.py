"""The names of the steps, for recipes and help; the steps themselves are in ``steps``."""

from __future__ import annotations

STEP_NAMES = (
    "language",
    "gopher_quality",
    "gopher_repetition",
    "c4",
    "fineweb",
    "lines",
    "exact_duplicates",
    "minhash",
    "paragraphs",
    "personal_data",
    "decontaminate",
    "classifier",
    "encoder",
    "perplexity",
)
DEFAULT_STEPS: tuple[str, ...] = (
    "language",
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "exact_duplicates",
    "minhash",
    "personal_data",
)
"""FineWeb's order (arXiv 2406.17557), with exact duplicates before near ones: texts too short for an n-gram
are compared there alone."""
