"""Sampled answers as a reward model reads them: in its own tokens and chat template, prompts shared.

The tokens are those that the same conversation has as a row of training data, so that a score after
sampling is the score in evaluation. An empty answer, which no training row has, is rendered as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.prompts import prompt_turns
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.chat.templates import ChatFormat, chat_format
from hf_align.data.comparisons.encoding import tree_of
from hf_align.data.reading.raw import MalformedRow
from hf_align.data.tokenizing import tokenize
from hf_align.errors import UserError
from hf_align.sampling.options import context_length
from hf_align.saved_models.reward_scoring import RewardModel
from hf_align.types import ComparisonRow, Example, Message, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class AnswerReader:
    """Answers to the rows that ``model`` scores. ``name``: of the model, for errors.

    ``answer_only``: the model reads the answer as a plain text and nothing else.
    """

    model: RewardModel
    name: str
    answer_only: bool = False
    _format: ChatFormat | None = field(default=None, repr=False)

    def borrow_template(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Take the chat template of a tokenizer with the same vocabulary where the model's has none."""
        own = self.model.tokenizer
        if self.answer_only or own.chat_template or tokenizer is None or not tokenizer.chat_template:
            return
        if own.get_vocab() == tokenizer.get_vocab():
            own.chat_template = tokenizer.chat_template

    def read(
        self, examples: Sequence[Example], completions: Sequence[str], *, max_tokens: int
    ) -> tuple[list[ComparisonRow], npt.NDArray[np.int64]]:
        """(trees, (R,) the number of the answer that each branch holds).

        Answers to the same example share a tree, as long as it has at most ``max_tokens`` tokens. Raises
        UserError for an answer that the template refuses or that is longer than the model's context.
        """
        sequences = self._sequences(examples, completions)
        self._check_lengths(sequences, examples)
        of_example: dict[int, list[int]] = {}
        for i, example in enumerate(examples):
            of_example.setdefault(id(example), []).append(i)
        trees: list[ComparisonRow] = []
        order: list[int] = []
        for numbers in of_example.values():
            for part in _within(numbers, [len(sequences[i]) for i in numbers], max_tokens):
                trees.append(_tree([sequences[i] for i in part], examples[part[0]].source))
                order += part
        return trees, np.array(order, dtype=np.int64)

    def _sequences(
        self, examples: Sequence[Example], completions: Sequence[str]
    ) -> list[npt.NDArray[np.int32]]:
        chats: list[int] = []
        texts: list[str] = []
        plain: list[int] = []
        for i, (example, completion) in enumerate(zip(examples, completions, strict=True)):
            if self.answer_only or example.messages is None:
                plain.append(i)
            else:
                chats.append(i)
                texts.append(self._rendered(example, completion))
        found: dict[int, npt.NDArray[np.int32]] = {}
        tokenizer = self.model.tokenizer
        if texts:
            tokens = tokenize(tokenizer, texts, add_special_tokens=False)
            found |= {i: each.ids for i, each in zip(chats, tokens, strict=True)}
        if plain:
            ids = self._plain([examples[i] for i in plain], [completions[i] for i in plain])
            found |= dict(zip(plain, ids, strict=True))
        return [found[i] for i in range(len(completions))]

    def _rendered(self, example: Example, completion: str) -> str:
        turns = prompt_turns(example)
        try:
            return self._chat().render([*turns, Message("assistant", completion)])
        except MalformedRow as problem:
            raise UserError(
                f"reward_model: '{self.name}' cannot read the answer to {example.source}: {problem}"
            ) from problem

    def _chat(self) -> ChatFormat:
        if self._format is None:
            if not self.model.tokenizer.chat_template:
                raise UserError(
                    f"reward_model: '{self.name}' has no chat template to read conversations in; save one "
                    "with its tokenizer, or set reward_model_input: answer for a model that reads the answer "
                    "alone"
                )
            self._format = chat_format(self.model.tokenizer)
        return self._format

    def _plain(self, examples: Sequence[Example], completions: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """The answer alone as the tokenizer takes any text; or prompt and answer as training rows do."""
        tokenizer = self.model.tokenizer
        if self.answer_only:
            return [each.ids for each in tokenize(tokenizer, completions, add_special_tokens=True)]
        encoder = make_encoder(
            tokenizer,
            train_on="last",
            add_eos=tokenizer.eos_token_id is not None,
            require_end_of_turn=False,
        )
        pairs = [
            Example(example.source, prompt=example.prompt or "", completion=completion)
            for example, completion in zip(examples, completions, strict=True)
        ]
        found = []
        for pair, row in zip(pairs, encoder.encode(pairs), strict=True):
            if isinstance(row, MalformedRow):
                raise UserError(f"reward_model: '{self.name}' cannot read {pair.source}: {row}")
            found.append(row.input_ids)
        return found

    def _check_lengths(self, sequences: Sequence[npt.NDArray[np.int32]], examples: Sequence[Example]) -> None:
        limit = context_length(self.model.model, self.model.tokenizer)
        for sequence, example in zip(sequences, examples, strict=True):
            if not len(sequence):
                raise UserError(
                    f"reward_model: '{self.name}' has no token to read for the answer to {example.source}, "
                    "which is empty; set reward_model_input: conversation"
                )
            if limit is not None and len(sequence) > limit:
                raise UserError(
                    f"reward_model: '{self.name}' reads at most {limit} tokens; the answer to "
                    f"{example.source} has {len(sequence)} with its prompt. Allow fewer new tokens, leave "
                    "long prompts out (max_length, overlong: drop), or take another reward model"
                )


def _within(numbers: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """``numbers`` in parts whose lengths add up to at most ``max_tokens``, at least one in each."""
    parts: list[list[int]] = []
    total = 0
    for number, length in zip(numbers, lengths, strict=True):
        if parts and total + length <= max_tokens:
            parts[-1].append(number)
            total += length
        else:
            parts.append([number])
            total = length
    return parts


def _tree(sequences: Sequence[npt.NDArray[np.int32]], source: str) -> ComparisonRow:
    """What all sequences share as the prefix, and at least one token of each as its branch; no targets."""
    rows = [TokenizedRow(ids, np.zeros(len(ids), dtype=bool), source) for ids in sequences]
    return tree_of(rows, np.zeros(len(rows)))
