"""Answers compared with the right one, which stands in a column of the row."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.errors import UserError
from hf_align.rewards.calling import RowProblem

ANSWER_COLUMNS = ("answer", "solution", "ground_truth", "reward_model.ground_truth")
"""Where the right answer is looked for without ``column``: GSM8K's name, TRL's, and verl's two."""

_PUNCTUATION = str.maketrans(
    {mark: " " for mark in string.punctuation + "。，、！？；：「」『』（）《》“”‘’"}
)


def exact_answer(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    column: str | None = None,
    tag: str | None = None,
    strict: bool = False,
) -> list[float]:
    """1 where the answer is the row's, else 0.

    ``tag``: only what stands in the last ``<tag>…</tag>`` is compared. Letters' case, punctuation and white
    space do not count unless ``strict``. The right answer may be a list, of which one is enough.
    """
    found = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        said = inside(completion, tag)
        right = right_answer(row, column, "exact_answer", number)
        accepted = right if isinstance(right, list | tuple) else [right]
        if strict:
            found.append(float(said is not None and said.strip() in [str(one).strip() for one in accepted]))
        else:
            found.append(
                float(said is not None and normalized(said) in [normalized(str(one)) for one in accepted])
            )
    return found


def numeric(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    column: str | None = None,
    tag: str | None = None,
) -> list[float]:
    """1 where the last number or formula of the answer equals the row's, else 0, as math-verify compares.

    1/2, 0.5 and ``\\frac{1}{2}`` are equal, and so are 1,250 and 1250. In the row's answer, what stands
    behind GSM8K's ``####`` counts. ``tag``: as in ``exact_answer``. Raises UserError for a row whose answer
    is no number or formula.
    """
    try:
        from math_verify import parse, verify
    except ImportError:
        raise UserError(
            "reward_functions: numeric: the package math-verify is not installed; "
            "pip install 'hf_align[verifiers]'"
        ) from None
    gold: dict[str, Any] = {}
    found = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        right = str(right_answer(row, column, "numeric", number))
        if right not in gold:
            gold[right] = parse(right.rpartition("####")[2])
            if not gold[right]:
                raise RowProblem(
                    number,
                    f"reward_functions: numeric: found the answer {right[:80]!r}, expected a number or "
                    "formula",
                )
        said = inside(completion, tag)
        found.append(float(said is not None and bool(verify(gold[right], parse(said)))))
    return found


def multiple_choice(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    column: str | None = None,
    tag: str | None = None,
) -> list[float]:
    """1 where the letter that the answer settles on is the row's, else 0.

    It is the last letter that stands in parentheses or behind the word "answer" or "option"; without one, the
    answer's only letter, alone or with a mark behind it. The row has the letter, or its number from 0.
    """
    found = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        right = right_answer(row, column, "multiple_choice", number)
        said = inside(completion, tag)
        found.append(float(said is not None and chosen_letter(said) == _letter(right, number)))
    return found


_MARKED = re.compile(
    r"\(([A-Z])\)|(?:answer|option|choice|答案)[\s*]*(?:is|was|:|：|是|为)*[\s*]*\(?([A-Z])\b(?!['’])",
    re.IGNORECASE,
)
_ALONE = re.compile(r"^\W*([A-Z])\W*$|^\W*([A-Z])[.):：、]", re.MULTILINE)


def chosen_letter(text: str) -> str | None:
    """The letter that ``text`` settles on; None where there is none, or several without a word for one."""
    marked = [(a or b) for a, b in _MARKED.findall(text)]
    marked = [letter for letter in marked if letter.isupper()]
    if marked:
        return marked[-1]
    alone = {a or b for a, b in _ALONE.findall(text)}
    return alone.pop() if len(alone) == 1 else None


def _letter(right: Any, number: int) -> str:
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < 26:
        return string.ascii_uppercase[right]
    text = str(right).strip().strip("().").upper()
    if len(text) == 1 and text in string.ascii_uppercase:
        return text
    raise RowProblem(
        number,
        f"reward_functions: multiple_choice: found the answer {right!r}, expected a letter, or its number "
        "from 0",
    )


def right_answer(row: Mapping[str, Any], column: str | None, name: str, number: int) -> Any:
    """The value of ``column``, whose parts may be joined by dots; without it, of the first of
    ``ANSWER_COLUMNS`` that the row has. Raises RowProblem for row ``number`` where there is none."""
    for wanted in (column,) if column else ANSWER_COLUMNS:
        value: Any = row
        for part in wanted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    listed = ", ".join(str(key) for key in row)
    raise RowProblem(
        number,
        f"reward_functions: {name}: the row has no column {column or ' or '.join(ANSWER_COLUMNS)} with the "
        f"right answer; found: {listed}. Name it by reward_options: {{{name}: {{column: …}}}}",
    )


def inside(text: str, tag: str | None) -> str | None:
    """What the last ``<tag>…</tag>`` holds, or None; the whole text, less what is thought, without a tag."""
    if tag is None:
        return text.rpartition("</think>")[2]
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len(tag) + 2 : end]


def normalized(text: str) -> str:
    """``text`` in one spelling: NFKC, lower case, without punctuation, words one space apart."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION).split())
