"""Prompts to be answered: what every row of a data set has before its last answer.

The rows are those that fine-tuning reads, with the same checks and counts. Sampling is elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_align.data.chat.rendering import make_encoder, prompt_ids, render_prompt
from hf_align.data.pipeline import DataSource, check_overlong, check_shares, kept_rows
from hf_align.data.reading.sources import read_rows
from hf_align.data.report import DataReport, SourceReport
from hf_align.errors import UserError
from hf_align.types import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig, DatasetConfig


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``ids``: its tokens. ``text``: what they say, special tokens included. ``reference``: the
    answer that the data hold. ``example``: the row in canonical form, ``row``: with its own columns."""

    ids: tuple[int, ...]
    text: str
    reference: str
    example: Example
    row: dict[str, Any]


def read_prompts(
    data: DataConfig, tokenizer: PreTrainedTokenizerBase, *, settable: bool = True
) -> tuple[list[Prompt], DataReport]:
    """The prompts of ``data.datasets`` in their order, and the report on the rows.

    ``settable``: whether the limits in ``data`` are keys of the recipe, see ``pipeline.check_shares``.

    Errors: ``UserError`` where a source cannot be read or has too many rows that cannot be used, where rows
    are too long and ``overlong`` is ``error``, and for plain texts, which have no prompt.
    """
    encoder = make_encoder(
        tokenizer,
        train_on=data.targets,
        add_eos=data.add_eos,
        require_end_of_turn=data.require_end_of_turn,
        keep_reasoning=data.keep_reasoning,
    )
    report = DataReport([SourceReport(dataset.path) for dataset in data.datasets])
    examples: list[Example] = []
    for dataset, counts in zip(data.datasets, report.sources, strict=True):
        found = list(kept_rows(DataSource(dataset, data, encoder, counts, asked=True)))
        check_shares(counts, data, settable=settable)
        different = {row.input_ids.tobytes() for row, _ in found}
        counts.duplicates = len(found) - len(different)
        examples += [example for _, example in found]
    check_overlong(report.sources, data)
    report.train_rows = len(examples)
    if not examples:
        malformed, dropped, read = (
            sum(getattr(source, name) for source in report.sources)
            for name in ("malformed", "dropped", "read")
        )
        raise UserError(
            f"datasets: none of the {read} rows can be used as a prompt: {malformed} malformed, {dropped} "
            f"dropped because they are longer than max_length = {data.max_length} tokens"
        )
    return prompts_of(examples, data, tokenizer), report


def prompts_of(
    examples: Sequence[Example], data: DataConfig, tokenizer: PreTrainedTokenizerBase
) -> list[Prompt]:
    """The prompts of ``examples``, which come from ``data.datasets`` or ``data.eval_datasets``.

    Errors: ``UserError`` for plain texts, which have no prompt, and where a source cannot be read.
    """
    _check_asked(examples)
    places = {example.source for example in examples}
    rows = original_rows([*data.datasets, *data.eval_datasets], places)
    return [_prompt(tokenizer, example, rows.get(example.source, {})) for example in examples]


def original_rows(datasets: Sequence[DatasetConfig], places: Collection[str]) -> dict[str, dict[str, Any]]:
    """Column to value of each row, by its place (``Example.source``); the data sets are read once more.

    A reward of the user's own may need what canonical rows leave out, such as the number that an answer has
    to name. Places that are in none of the data sets are left out. Errors: ``UserError`` where one cannot be
    read.
    """
    wanted = set(places)
    found: dict[str, dict[str, Any]] = {}
    for dataset in datasets:
        for row in read_rows(dataset):
            if len(found) == len(wanted):
                return found
            if row.place in wanted and row.values is not None:
                found.setdefault(row.place, row.values)
    return found


def prompt_turns(example: Example) -> tuple[Message, ...]:
    """The turns that are answered: those before the answer at the end, all where the last turn is none."""
    messages = example.messages or ()
    return messages[:-1] if example.answered else messages


def _prompt(tokenizer: PreTrainedTokenizerBase, example: Example, row: dict[str, Any]) -> Prompt:
    text, reference = render_prompt(tokenizer, example)
    return Prompt(tuple(prompt_ids(tokenizer, example)), text, reference, example, row)


def _check_asked(examples: Sequence[Example]) -> None:
    for example in examples:
        if example.text is not None:
            raise UserError(
                f"{example.source}: a plain text has no prompt to answer; expected rows with a prompt and an "
                "answer, such as messages or prompt and completion"
            )
        if example.messages is not None and not prompt_turns(example):
            raise UserError(f"{example.source}: the conversation has no turn before its answer")
        if example.prompt == "":
            raise UserError(f"{example.source}: the prompt is empty; expected some text to continue")
