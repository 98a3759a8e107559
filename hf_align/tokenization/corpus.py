"""The texts of a recipe's data sets, one by one, whatever the form of their rows; nothing is held in memory.

A conversation yields its turns, compared answers their prompt and every answer: what a tokenizer will meet,
without the template that is put around it. Rows that cannot be read are counted, and refused above a share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import COMPARISON_FORMATS, FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow
from hf_align.data.report import SourceReport
from hf_align.errors import UserError
from hf_align.types import Comparison, Example
from hf_align.types.examples import answer_turns

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig
    from hf_align.tokenization.recipe import TextConfig


@dataclass(frozen=True)
class Text:
    """``source``: the path of its data set. ``group``: the value of the column ``report_by``, or empty."""

    text: str
    source: str
    group: str = ""


def training_texts(config: TextConfig) -> Iterator[str]:
    """The texts to train on. Errors: ``UserError`` as ``texts_of``, and where there is none at all."""
    empty = True
    for dataset in config.datasets:
        for text in texts_of(dataset, config, held_out=False):
            empty = False
            yield text.text
    if empty:
        named = ", ".join(dataset.path for dataset in config.datasets)
        raise UserError(f"datasets: {named}: there is no text to train on.")


def counted(texts: Iterable[str], *, show_progress: bool) -> Iterator[str]:
    """The texts, counted on the terminal while they are read; a stream does not say how many there are."""
    from tqdm.auto import tqdm

    yield from tqdm(texts, desc="reading", unit=" texts", leave=False, disable=not show_progress)


def held_out_texts(config: TextConfig) -> Iterator[Text]:
    """The texts to measure on: of ``eval_datasets``, else the share that is not trained on, else all."""
    if config.eval_datasets:
        for dataset in config.eval_datasets:
            yield from texts_of(dataset, config, held_out=None)
    else:
        for dataset in config.datasets:
            yield from texts_of(dataset, config, held_out=True if config.eval_split_size else None)


def check_held_out(config: TextConfig) -> None:
    """Raise ``UserError`` where nothing is there to measure on, or a data set cannot be read.

    Every data set is read up to its first text that is measured.
    """
    held_out = True if config.eval_split_size else None
    datasets = config.eval_datasets or config.datasets
    if not any([next(texts_of(dataset, config, held_out=held_out), None) for dataset in datasets]):
        if config.eval_split_size:
            raise UserError(
                f"eval_split_size: {config.eval_split_size:g} of the rows of each data set holds out no text "
                "to measure on; expected a larger share, or eval_datasets."
            )
        raise UserError(
            f"{'eval_datasets' if config.eval_datasets else 'datasets'}: there is no text in them."
        )


def texts_of(dataset: DatasetConfig, config: TextConfig, *, held_out: bool | None) -> Iterator[Text]:
    """The texts of a data set, empty ones left out.

    ``held_out``: only rows that are held out, only those that are not, or (None) both. Held out are rows at
    even distances, so that the split is the same on every pass.

    Errors: ``UserError`` from the reader and the detection of the format; where a share of the rows above
    ``max_malformed_share`` cannot be read.
    """
    # A tokenizer learns from both kinds.
    convert, rows = open_rows(dataset, FORMATS, COMPARISON_FORMATS, streaming=True)
    report = SourceReport(dataset.path, "train")
    share = config.eval_split_size
    for number, row in enumerate(rows):
        report.read += 1
        try:
            texts = _encodable(texts_in(convert(row)))
        except MalformedRow as problem:
            report.add_malformed(row.place, str(problem), problem.kind)
            continue
        # Only here, so that both halves come to the same verdict: that on all rows.
        out = int((number + 1) * share) > int(number * share)
        if held_out is None or out == held_out:
            group = _group(row, config.report_by)
            yield from (Text(text, dataset.path, group) for text in texts)
    if report.malformed > config.max_malformed_share * report.read:
        raise UserError(
            f"{dataset.path}: {report.malformed} of {report.read} rows are malformed, more than "
            f"max_malformed_share = {config.max_malformed_share:g} allows. The first:\n"
            + "\n".join(f"  {problem}" for problem in report.problems)
        )


def texts_in(example: Example | Comparison) -> Sequence[str]:
    """What is written in a row: a text, a prompt with its completion, turns, or a prompt and answers."""
    if isinstance(example, Comparison):
        prompt = example.prompt
        turns = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
        answers = [turn.content for answer in example.answers for turn in answer_turns(answer)]
        return [*turns, *answers]
    if example.messages is not None:
        return [message.content for message in example.messages]
    return [example.text if example.text is not None else f"{example.prompt}{example.completion}"]


def _group(row: RawRow, column: str | None) -> str:
    value = (row.values or {}).get(column) if column else None
    return "" if value is None else str(value)


def _encodable(texts: Iterable[str]) -> list[str]:
    found = [text for text in texts if text.strip()]
    for text in found:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise MalformedRow(f"not encodable as UTF-8: {error.reason}") from error
    return found
