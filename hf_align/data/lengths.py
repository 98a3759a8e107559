"""How long a row is, and what is left of it when it is cut, for rows of one sequence and of several.

Counting what becomes of rows is the business of ``pipeline``.
"""

from __future__ import annotations

from dataclasses import replace

from hf_align.types import ComparisonRow, TokenizedRow

Row = TokenizedRow | ComparisonRow


def sequence_length(row: Row) -> int:
    """Tokens of the sequence, or of the longest of several that share their prefix."""
    if isinstance(row, TokenizedRow):
        return len(row)
    return len(row.prefix) + max(map(len, row.branches))


def cut_row(row: Row, length: int) -> Row:
    """The row with at most ``length`` tokens in each of its sequences; the ends go, the prefix last.

    Copies, so that the long arrays are freed.
    """
    if isinstance(row, TokenizedRow):
        return replace(
            row, input_ids=row.input_ids[:length].copy(), target_mask=row.target_mask[:length].copy()
        )
    rest = max(0, length - len(row.prefix))
    branches = tuple(
        replace(
            branch, input_ids=branch.input_ids[:rest].copy(), target_mask=branch.target_mask[:rest].copy()
        )
        for branch in row.branches
    )
    return replace(row, prefix=row.prefix[:length].copy(), branches=branches)


def untrainable(row: Row) -> str:
    """Why nothing can be learned from the row, or an empty string.

    Every sequence needs a target. Of compared sequences two that do not tie have to differ, which they may no
    longer do when they were cut.
    """
    if isinstance(row, TokenizedRow):
        return "" if row.target_tokens else "no token is a target"
    for number, branch in enumerate(row.branches, start=1):
        if not branch.target_tokens:
            return f"no token of answer {number} is a target"
    if same_answers(row):
        return "answers that do not tie are the same"
    return ""


def same_answers(row: ComparisonRow) -> bool:
    """Whether two answers of which one is better have the same tokens."""
    score_of: dict[bytes, float] = {}
    for branch, score in zip(row.branches, row.scores.tolist(), strict=True):
        if score_of.setdefault(branch.input_ids.tobytes(), score) != score:
            return True
    return False
