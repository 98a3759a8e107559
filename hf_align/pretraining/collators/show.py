"""One batch of an objective in words: what the model reads and what it is to predict, as papers draw it.

Texts are tokenised and put through the very collator that training uses, and the tensors are decoded. For
looking at: it keeps texts short and decodes token by token, which no training does.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_align.data.tokenizing import tokenize
from hf_align.errors import UserError
from hf_align.pretraining.collators.nsp import LABELS, sentence_pairs
from hf_align.pretraining.collators.table import make_collator, objective
from hf_align.pretraining.collators.words import split_sentences
from hf_align.types import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = dict[str, str]
_WIDTH = 100


def encode_texts(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 128,
    seed: int = 0,
    epoch: int = 0,
) -> list[dict[str, Any]]:
    """Examples for an objective's collator, one a text, or the pairs of all texts; longer ones are cut.

    Next-token prediction gets an EOS behind each text. For pairs each text is a document, split into
    sentences. Raises UserError where no text has a token.
    """
    kind = objective(name).examples
    if kind == "pairs":
        options = objective(name).options
        documents = [
            [tokens.ids.tolist() for tokens in tokenize(tokenizer, split, add_special_tokens=False)]
            for text in texts
            if (split := split_sentences(text))
        ]
        return sentence_pairs(documents, max_length=max_length, kind=options["kind"], seed=seed, epoch=epoch)
    rows = tokenize(tokenizer, texts, add_special_tokens=kind == "with_specials")
    ends = [tokenizer.eos_token_id] if name == "causal" and tokenizer.eos_token_id is not None else []
    examples = []
    for index, tokens in enumerate(rows):
        ids = tokens.ids.tolist()
        if len(ids) + len(ends) > max_length:
            # A cut row still ends with the special tokens that the tokenizer put there.
            closing = ids[len(ids) - int(np.cumprod(tokens.added[::-1]).sum()) :]
            ids = ids[: max_length - len(closing) - len(ends)] + closing
        if ids:
            examples.append({"input_ids": ids + ends, "index": index, "epoch": epoch})
    if not examples:
        raise UserError(f"there is nothing to show of {name}: none of {len(texts)} texts has a token")
    return examples


def objective_rows(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 128,
    seed: int = 0,
    epoch: int = 0,
    **options: Any,
) -> list[Row]:
    """For each example what stands in the batch, by the name of the part, in words.

    ``options``: those of the objective's collator. Raises UserError as ``make_collator`` does.
    """
    collator = make_collator(name, tokenizer, seed=seed, **options)
    examples = encode_texts(name, tokenizer, texts, max_length=max_length, seed=seed, epoch=epoch)
    return example_rows(name, tokenizer, collator, examples)


def example_rows(
    name: str, tokenizer: PreTrainedTokenizerBase, collator: Any, examples: Sequence[dict[str, Any]]
) -> list[Row]:
    """The same for examples of the objective's ``collator``."""
    decode = TokenDecoder(tokenizer)
    rows = []
    for example in examples:
        # One at a time: then no padding has to be told apart from text.
        batch = {key: tensor[0].numpy() for key, tensor in collator([example]).items()}
        ids, labels = batch["input_ids"], batch["labels"]
        row: Row = {}
        if "first" not in example:
            row["text"] = decode.text(np.array(example["input_ids"]))
        if objective(name).architecture == "encoder_decoder":
            row |= {"inputs": decode.text(ids), "targets": decode.text(labels)}
        elif objective(name).architecture == "decoder":
            row |= _next_tokens(decode, batch)
        else:
            row |= {"inputs": decode.text(ids), "targets": _hidden(decode, ids, labels)}
            row |= border_facts(decode, batch)
        rows.append(row)
    return rows


def show_objective(
    name: str, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any
) -> str:
    """:func:`objective_rows` as lines for a terminal, with the objective's title above."""
    chosen = objective(name)
    rows = objective_rows(name, tokenizer, texts, **options)
    return "\n\n".join([f"{name}: {chosen.title} ({chosen.source})", *rows_as_text(rows)])


def rows_as_text(rows: Sequence[Row]) -> list[str]:
    """Each row as lines for a terminal."""
    blocks = []
    for row in rows:
        width = max(map(len, row)) + 2
        lines = [
            textwrap.fill(
                f"{part:<{width}}{content}",
                max(_WIDTH, width + 20),
                subsequent_indent=" " * width,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for part, content in row.items()
        ]
        blocks.append("\n".join(lines))
    return blocks


class TokenDecoder:
    """Ids to text in which special tokens stand apart."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = set(tokenizer.all_special_ids) | {
            id for id, token in tokenizer.added_tokens_decoder.items() if token.special
        }

    def text(self, ids: np.ndarray[Any, Any]) -> str:
        """Runs of ordinary tokens as the tokenizer decodes them, special tokens by name, blanks between."""
        parts: list[str] = []
        run: list[int] = []
        for id in [*ids.tolist(), None]:
            if id is not None and id not in self.special and id != IGNORE_INDEX:
                run.append(id)
                continue
            if run:
                parts.append(self.tokenizer.decode(run, clean_up_tokenization_spaces=False).strip())
                run = []
            if id is not None and id != IGNORE_INDEX:
                parts.append(self.token(id))
        return " ".join(part for part in parts if part)

    def token(self, id: int) -> str:
        """One token by itself."""
        id = int(id)
        if id in self.special:
            return str(self.tokenizer.convert_ids_to_tokens(id))
        return str(self.tokenizer.decode([id], clean_up_tokenization_spaces=False)).strip() or "' '"


def _hidden(decode: TokenDecoder, ids: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> str:
    """What stands in the inputs, and what is to be predicted there, for every hidden token."""
    places = np.flatnonzero(labels != IGNORE_INDEX)
    return ", ".join(f"{decode.token(ids[i])} → {decode.token(labels[i])}" for i in places.tolist())


def border_facts(decode: TokenDecoder, batch: dict[str, Any]) -> Row:
    """Segments and label of a pair; spans with their boundaries."""
    row: Row = {}
    ids = batch["input_ids"]
    if "token_type_ids" in batch:
        second = int(batch["token_type_ids"].sum())
        row["segments"] = f"0 for {len(ids) - second} tokens, 1 for {second}"
    for label in LABELS.values():
        if label in batch:
            follows = {"next_sentence_label": "B is random", "sentence_order_label": "A and B are swapped"}
            answer = follows[label] if batch[label] else "B follows A"
            row["label"] = f"{int(batch[label])} ({answer})"
    if "span_position" in batch:
        spans = []
        for i in np.flatnonzero((batch["labels"] != IGNORE_INDEX) & (batch["span_position"] == 0)).tolist():
            left, right = int(batch["left_boundary"][i]), int(batch["right_boundary"][i])
            hidden = decode.text(batch["labels"][left + 1 : right])
            spans.append(f"{decode.token(ids[left])} [{hidden}] {decode.token(ids[right])}")
        row["boundaries"] = ", ".join(spans)
    return row


def _next_tokens(decode: TokenDecoder, batch: dict[str, Any]) -> Row:
    """The part that is only read, and the part that is predicted token by token; ‖ between documents."""
    ids, labels = batch["input_ids"], batch["labels"]
    row: Row = {}
    for document in np.split(np.arange(len(ids)), document_starts(batch)[1:]):
        predicted = document[labels[document] != IGNORE_INDEX]
        first = int(predicted[0]) if len(predicted) else int(document[-1]) + 1
        parts = {
            "read": decode.text(ids[document[0] : first]),
            "predicted": decode.text(ids[first : document[-1] + 1]),
        }
        row = {name: f"{row[name]} ‖ {part}" if row else part for name, part in parts.items()}
    return row


def document_starts(batch: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Where the documents of a decoder's row begin that do not see each other."""
    return np.flatnonzero(batch["position_ids"] == 0) if "position_ids" in batch else np.zeros(1, np.int64)
