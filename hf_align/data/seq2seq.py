"""Prompts and answers for encoder-decoder models: text in, text out, without a chat template.

A row is the prompt's tokens with its answer's behind them, which are its targets; a batch takes the two apart
again. So rows are counted, cut, kept and shown as those of decoders are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.conversion.formats import FORMATS
from hf_align.data.encoding import RowEncoder
from hf_align.data.reading.raw import MalformedRow, tried
from hf_align.errors import UserError
from hf_align.types import IGNORE_INDEX, Example, PretrainingBatch, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Seq2SeqEncoder(RowEncoder):
    """Turns examples into token rows, the prompt as ``tokenizer(prompt)`` and the answer as
    ``tokenizer(text_target=answer)`` give it, special tokens included."""

    tokenizer: PreTrainedTokenizerBase

    formats = FORMATS
    rows = TokenizedRow

    def encode(self, examples: Sequence[Example]) -> list[TokenizedRow | MalformedRow]:
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token, with which the answers of an encoder-decoder "
                "model end; give it an eos_token."
            )
        texts = [tried(prompt_and_answer, example) for example in examples]
        good = [pair for pair in texts if not isinstance(pair, MalformedRow)]
        prompts = iter(self.prompt_ids([prompt for prompt, _ in good]))
        answers = iter(
            self.tokenizer(text_target=[a for _, a in good], verbose=False)["input_ids"] if good else []
        )
        return [
            pair if isinstance(pair, MalformedRow) else self._row(example, next(prompts), list(next(answers)))
            for example, pair in zip(examples, texts, strict=True)
        ]

    def _row(self, example: Example, prompt: list[int], answer: list[int]) -> TokenizedRow | MalformedRow:
        if not prompt:
            return MalformedRow("the prompt has no token")
        end = self.tokenizer.eos_token_id
        if not answer or answer[-1] != end:
            answer.append(end)
        mask = np.arange(len(prompt) + len(answer)) >= len(prompt)
        return TokenizedRow(np.array([*prompt, *answer], dtype=np.int32), mask, example.source)

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """What the encoder reads."""
        return list(self.tokenizer(list(prompts), verbose=False)["input_ids"]) if prompts else []


def prompt_and_answer(example: Example) -> tuple[str, str]:
    """(what comes before the last answer, that answer); turns are joined by line breaks.

    Raises MalformedRow for a plain text and for a conversation without an answer or a turn before it.
    """
    if example.text is not None:
        raise MalformedRow("a plain text has no prompt; expected a prompt and an answer")
    if example.messages is None:
        return example.prompt or "", example.completion or ""
    answers = [i for i, turn in enumerate(example.messages) if turn.role == "assistant"]
    if not answers or not answers[-1]:
        raise MalformedRow("the conversation has no answer, or no turn before it")
    turns = [turn.content for turn in example.messages[: answers[-1]]]
    return "\n".join(turns), example.messages[answers[-1]].content


def collate_seq2seq(rows: Sequence[TokenizedRow], *, pad_token_id: int) -> PretrainingBatch:
    """Prompts for the encoder and answers for the decoder, each padded on the right to its longest.

    Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("collate_seq2seq needs at least one row")
    starts = [int(row.target_mask.argmax()) if row.target_tokens else len(row) for row in rows]
    prompts = [row.input_ids[:start] for row, start in zip(rows, starts, strict=True)]
    # A row without an answer keeps a process busy and counts nothing.
    answers = [
        row.input_ids[start:] if start < len(row) else np.array([IGNORE_INDEX])
        for row, start in zip(rows, starts, strict=True)
    ]
    labels = _padded(answers, IGNORE_INDEX)
    inputs: dict[str, Any] = {
        "input_ids": _padded(prompts, pad_token_id),
        "attention_mask": _padded([np.ones(len(prompt)) for prompt in prompts], 0),
        "shift_labels": labels,
    }
    targets = labels[labels != IGNORE_INDEX]
    return PretrainingBatch(inputs, targets, torch.zeros_like(targets))


def _padded(pieces: Sequence[npt.NDArray[Any]], value: int) -> torch.Tensor:
    found = np.full((len(pieces), max(len(piece) for piece in pieces)), value, dtype=np.int64)
    for i, piece in enumerate(pieces):
        found[i, : len(piece)] = piece
    return torch.from_numpy(found)
