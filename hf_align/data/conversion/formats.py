"""The row formats: which columns each has, and how a row of it becomes an example.

There are five tables: rows with an answer to learn from, rows that compare answers, texts with a label,
answers with a label, and rows that a model is to answer. A ``Conversion`` looks the columns of a row up; what
their values mean is in ``answers``, ``comparisons``, ``labels`` and ``unpaired``, what a turn may hold in
``turns``, and what is made of columns that no format names in ``columns``. Which format a source has is found
in ``detection``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from hf_align.data.conversion import answers, comparisons, labels, unpaired
from hf_align.data.conversion.columns import refuse_unpaired, with_template_columns
from hf_align.data.conversion.turns import with_system_prompt
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.errors import UserError
from hf_align.types import AnyExample

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Canonical columns of a format, and the function that turns their values into what a stage learns from.

    ``also``: another name under which a canonical column is read where the row has none of its own.
    ``marked``: a column, and the pattern that one of its texts has to hold for the format to be detected.
    ``without``: columns that speak against the format when it is detected. ``asked``: its rows are answered
    by a model, so that an answer in them is a reference and nothing is trained on it.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    convert: Callable[[str, dict[str, Any]], AnyExample]
    also: dict[str, str] = field(default_factory=dict)
    marked: tuple[str, re.Pattern[str]] | None = None
    without: tuple[str, ...] = ()
    asked: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return self.required + self.optional

    def names(self, columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """For each canonical column the names to read it by, in order; ``columns`` is the recipe's."""
        own: dict[str, tuple[str, ...]] = {
            name: (name, self.also[name]) if name in self.also else (name,) for name in self.columns
        }
        return own | {name: (column,) for name, column in columns.items() if name in own}


Table = Mapping[str, RowFormat]


class OtherStageError(UserError):
    """Rows are in a format that this stage does not take and another one does."""


_SYSTEM = {"system": "system_prompt"}
# In the order in which detection tries them: rows often carry a flat copy of what the richer column holds.
FORMATS: dict[str, RowFormat] = {
    "messages": RowFormat(("messages",), ("system",), answers.from_messages, also=_SYSTEM),
    "sharegpt": RowFormat(("conversations",), ("system",), answers.from_sharegpt, also=_SYSTEM),
    "alpaca": RowFormat(
        ("instruction", "output"), ("input", "system", "history"), answers.from_alpaca, also=_SYSTEM
    ),
    "prompt_completion": RowFormat(
        ("prompt", "completion"), ("system",), answers.from_prompt_completion, also=_SYSTEM
    ),
    "baize": RowFormat(
        ("input",), (), answers.from_baize, marked=("input", re.compile(r"\[\|(Human|AI)\|\]"))
    ),
    "text": RowFormat(("text",), (), answers.from_text),
}
"""Rows with an answer, or a text, to learn from."""

_SELECTED = {"chosen": "selected", **_SYSTEM}
COMPARISON_FORMATS: dict[str, RowFormat] = {
    "sharegpt_preference": RowFormat(
        ("conversations", "chosen", "rejected"),
        ("system", "margin"),
        comparisons.from_sharegpt_preference,
        also=_SELECTED,
    ),
    "alpaca_preference": RowFormat(
        ("instruction", "chosen", "rejected"),
        ("input", "system", "history", "margin"),
        comparisons.from_alpaca_preference,
        also=_SELECTED,
    ),
    "hh": RowFormat(
        ("chosen", "rejected"),
        ("system", "margin"),
        comparisons.from_hh,
        also=_SELECTED,
        marked=("chosen", comparisons.HH_MARKER),
        without=("prompt",),
    ),
    "preference": RowFormat(
        ("chosen", "rejected"),
        ("prompt", "system", "margin"),
        comparisons.from_preference,
        also=_SELECTED,
    ),
    "ultrafeedback": RowFormat(
        ("prompt", "completions"),
        ("system", "margin"),
        comparisons.from_ultrafeedback,
        also={"prompt": "instruction", **_SYSTEM},
    ),
    "ranking": RowFormat(
        ("prompt", "answers"), ("scores", "system", "margin"), comparisons.from_ranking, also=_SYSTEM
    ),
}
"""Rows that compare answers to the same prompt."""

_ASKED = {
    **{
        name: replace(each, convert=answers.asked_pair(each.convert))
        for name, each in COMPARISON_FORMATS.items()
    },
    **FORMATS,
    "messages": replace(FORMATS["messages"], convert=answers.asked_messages),
    "sharegpt": replace(FORMATS["sharegpt"], convert=answers.asked_sharegpt),
    "prompt": RowFormat(("prompt",), ("system",), answers.from_prompt, also=_SYSTEM),
}
PROMPT_FORMATS: dict[str, RowFormat] = {name: replace(each, asked=True) for name, each in _ASKED.items()}
"""Rows that a stage asks: those with an answer, which is the reference, pairs, and prompts alone."""

LABELLED_FORMATS: dict[str, RowFormat] = {
    "labelled_pair": RowFormat(("sentence1", "sentence2", "label"), (), labels.from_pair),
    "labelled_text": RowFormat(("text", "label"), (), labels.from_text),
}
"""Rows with one text, or two, and the label of what they are."""

UNPAIRED_FORMATS: dict[str, RowFormat] = {
    "unpaired_messages": RowFormat(
        ("messages", "label"), ("system",), unpaired.from_unpaired_messages, also=_SYSTEM
    ),
    "unpaired_sharegpt": RowFormat(
        ("conversations", "label"), ("system",), unpaired.from_unpaired_sharegpt, also=_SYSTEM
    ),
    "unpaired": RowFormat(
        ("prompt", "completion", "label"), ("system",), unpaired.from_unpaired, also=_SYSTEM
    ),
}
"""Rows with one answer, and whether that is desirable."""

LABEL = "label"
"""The column with the class of a labelled row."""

STAGES = ((FORMATS, "sft"), (COMPARISON_FORMATS, "dpo and reward"))


@dataclass(frozen=True)
class Conversion:
    """Makes an example of each row of a source; may be sent to another process.

    ``template_options``: what every chat template gets, by name.
    ``format``: the name of ``row_format``. ``names``: the columns by which each canonical one is read, in
    order. ``system_prompt``: what a conversation without a system turn gets for one. ``classes``: the names
    that the data set gives to the numbers of its labels.
    """

    format: str
    row_format: RowFormat
    names: Mapping[str, tuple[str, ...]]
    system_prompt: str | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __call__(self, row: RawRow) -> Any:
        """The example. Raises ``MalformedRow`` for a row that cannot be used."""
        if row.values is None:
            raise MalformedRow(row.problem)
        if self.row_format in FORMATS.values():  # whose answers are trained on
            refuse_unpaired(row.values)
        values = {}
        for canonical, keys in self.names.items():
            key = next((key for key in keys if key in row.values), None)
            if key is None and canonical in self.row_format.required:
                raise MalformedRow(f"has no '{keys[0]}'")
            values[canonical] = None if key is None else row.values[key]
            if self.classes and canonical == LABEL and key is not None:
                values[canonical] = labels.class_name(row.values[key], self.classes)
        example = with_system_prompt(self.row_format.convert(row.place, values), self.system_prompt)
        return with_template_columns(example, row.values, self.template_options)

    def read_columns(self) -> frozenset[str]:
        """The columns that the format reads, by their names in the source."""
        return frozenset(chain.from_iterable(self.names.values()))
