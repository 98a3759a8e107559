"""Perplexity, bits per character and bits per byte of texts, and of answers to prompts.

Every target token is scored exactly once. A text longer than the window is read in overlapping windows, each
of which scores the tokens that the one before did not reach; its first token may be one that nothing
precedes, and is then neither scored nor are its characters counted. Perplexities of models with different
tokenizers cannot be compared, bits per character and per byte can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.config.data import DataConfig
from hf_align.data.chat.rendering import Encoder, make_encoder
from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import FORMATS, Conversion
from hf_align.data.plain import opening
from hf_align.data.reading.raw import MalformedRow, RawRow, tried
from hf_align.data.report import SHOWN_PROBLEMS
from hf_align.data.tokenizing import tokenize
from hf_align.errors import UserError
from hf_align.evaluation.scoring import Scorer
from hf_align.statistics.bootstrap import bootstrap_interval
from hf_align.types import Example, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DatasetConfig

_ROWS_BEFORE_SHARES_COUNT = 100
_TOGETHER = 256
"""Documents that are tokenised and scored before the next ones are read."""


@dataclass(frozen=True)
class ScoredDocument:
    """One text, or prompt with answer, of L tokens.

    ``ids`` (L,) int32, of which the first ``head`` are what every window begins with (BOS, where the
    tokenizer puts one first). ``target_mask`` (L,) bool. ``characters`` and ``bytes`` (UTF-8): of the text
    that the targets stand for.
    """

    source: str
    ids: npt.NDArray[np.int32]
    target_mask: npt.NDArray[np.bool_]
    head: int
    characters: int
    bytes: int


def windows(document: ScoredDocument, length: int, stride: int) -> list[TokenizedRow]:
    """Windows of at most ``length`` tokens that score every target of ``document`` once.

    Each begins with the document's head. The first scores all its targets, each of the others the last
    ``stride`` tokens at most, with at least ``length - head - stride`` tokens before them. Windows without a
    target are left out. Raises ValueError where the head leaves no room.
    """
    head, content = document.ids[: document.head], document.ids[document.head :]
    targets = document.target_mask[document.head :]
    room = length - len(head)
    if room < 1 or not 0 < stride <= room:
        raise ValueError(f"no room for a stride of {stride} in windows of {length} tokens")
    rows = []
    scored, end = 0, min(room, len(content))
    while scored < len(content):
        begin = max(0, end - room)
        mask = np.zeros(len(head) + end - begin, dtype=bool)
        mask[len(head) + scored - begin :] = targets[scored:end]
        if mask.any():
            rows.append(TokenizedRow(np.concatenate([head, content[begin:end]]), mask, document.source))
        scored, end = end, min(end + stride, len(content))
    return rows


def read_documents(
    dataset: DatasetConfig, tokenizer: PreTrainedTokenizerBase
) -> Iterator[ScoredDocument | MalformedRow]:
    """What a source holds, tokenised as training rows are, but without an EOS behind it, or what is wrong.

    Of a plain text every token is a target that another one precedes; of a conversation or a prompt with its
    completion the answers are, with the token that ends a turn. Errors: ``UserError`` from the
    reader and the detection of the format.
    """
    encoder = make_encoder(tokenizer, add_eos=False, require_end_of_turn=False)
    convert, rows = open_rows(dataset, FORMATS)
    for chunk in _chunks(rows, _TOGETHER):
        yield from _documents(encoder, [_example(convert, row) for row in chunk])


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _example(convert: Conversion, row: RawRow) -> Example | MalformedRow:
    found = tried(convert, row)
    return MalformedRow(f"{row.place}: {found}") if isinstance(found, MalformedRow) else found


def _documents(
    encoder: Encoder, examples: Sequence[Example | MalformedRow]
) -> Iterator[ScoredDocument | MalformedRow]:
    texts = [each.text for each in examples if isinstance(each, Example) and each.text is not None]
    answered = [each for each in examples if isinstance(each, Example) and each.text is None]
    tokens = iter(tokenize(encoder.whole, texts, add_special_tokens=True) if texts else [])
    rows = iter(encoder.encode(answered))
    for example in examples:
        if isinstance(example, MalformedRow):
            yield example
        elif example.text is not None:
            yield _text_document(encoder, example, next(tokens))
        else:
            row = next(rows)
            if isinstance(row, MalformedRow):
                yield MalformedRow(f"{example.source}: {row}")
            else:
                yield _answer_document(encoder, example, row)


def _text_document(encoder: Encoder, example: Example, tokens: Any) -> ScoredDocument:
    head, start, stop = opening(tokens, encoder.tokenizer.bos_token_id)
    ids = np.concatenate([head, tokens.ids[start:stop]]).astype(np.int32)
    mask = np.ones(len(ids), dtype=bool)
    mask[: max(1, len(head))] = False
    # Without a BOS nothing precedes the first token.
    unscored = int(tokens.offsets[start][1]) if not len(head) and stop > start else 0
    text = (example.text or "")[unscored:]
    return ScoredDocument(
        example.source, ids, mask, len(head), len(text), len(text.encode("utf-8", "replace"))
    )


def _answer_document(encoder: Encoder, example: Example, row: TokenizedRow) -> ScoredDocument:
    if example.messages is None:
        texts = [example.completion or ""]
    else:
        texts = [turn.content for turn in example.messages if turn.role == "assistant"]
    bos = encoder.tokenizer.bos_token_id
    # A conversation may open with the token that opens every turn: that is no head to be repeated.
    head = int(example.messages is None and len(row) > 0 and row.input_ids[0] == bos)
    counts = [sum(map(len, texts)), sum(len(text.encode("utf-8", "replace")) for text in texts)]
    return ScoredDocument(row.source, row.input_ids, row.target_mask, head, *counts)


@dataclass(frozen=True)
class Sums:
    """Of one document: ``nll`` in nats over its ``tokens`` targets, which stand for ``characters``,
    ``bytes``."""

    nll: float
    tokens: int
    characters: int
    bytes: int


def score_documents(
    scorer: Scorer,
    documents: Sequence[ScoredDocument],
    *,
    length: int,
    stride: int,
    progress: Callable[[int], None] | None = None,
) -> list[Sums]:
    """The sums of each document; ``progress`` is called with numbers of windows."""
    cut = [windows(document, length, stride) for document in documents]
    flat = [row for rows in cut for row in rows]
    logps = iter(scorer.rows(flat, progress))
    found = []
    for document, rows in zip(documents, cut, strict=True):
        nll = -math.fsum(float(next(logps).sum(dtype=np.float64)) for _ in rows)
        tokens = sum(row.target_tokens for row in rows)
        found.append(Sums(nll, tokens, document.characters, document.bytes))
    return found


def perplexity_metrics(sums: Sequence[Sums], *, seed: int = 42) -> dict[str, Any]:
    """``perplexity`` = exp(nats per token), ``bits_per_character`` and ``bits_per_byte``, with what they rest
    on.

    ``perplexity_interval`` and ``bits_per_byte_interval``: 95 %, from drawing the documents again; None for
    fewer than two of them. Raises ValueError where nothing was scored.
    """
    table = np.array(
        [[each.nll, each.tokens, each.characters, each.bytes] for each in sums], dtype=np.float64
    )
    nll, tokens, characters, size = table.sum(axis=0) if len(table) else np.zeros(4)
    if not tokens:
        raise ValueError("no token was scored")

    def bits(total: float, units: float) -> float:
        # -log2 p = nats / ln 2
        return float(total / (math.log(2) * units)) if units else math.nan

    def ratio(column: int) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
        return lambda drawn: drawn[:, 0] / np.maximum(drawn[:, column], 1)

    per_token = bootstrap_interval(table, ratio(1), seed=seed)
    per_byte = bootstrap_interval(table, ratio(3), seed=seed)
    return {
        "documents": len(sums),
        "tokens": int(tokens),
        "characters": int(characters),
        "bytes": int(size),
        "nll": float(nll),
        "perplexity": math.exp(min(nll / tokens, 700.0)),
        "perplexity_interval": per_token and [math.exp(min(limit, 700.0)) for limit in per_token],
        "token_bits": bits(nll, tokens),
        "bits_per_character": bits(nll, characters),
        "bits_per_byte": bits(nll, size),
        "bits_per_byte_interval": per_byte and [limit / math.log(2) for limit in per_byte],
    }


def _check_malformed(dataset: DatasetConfig, problems: Sequence[str], good: int) -> None:
    """Raise UserError where the share of malformed rows is above what training allows by default."""
    rows, allowed = len(problems) + good, DataConfig([dataset]).max_malformed_share
    if len(problems) > allowed * rows:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN_PROBLEMS])
        raise UserError(
            f"{dataset.path}: {len(problems)} of {rows} rows are malformed, more than {allowed:.0%}. The "
            f"first:\n{shown}\nFix or remove them."
        )


def measure_perplexity(
    scorer: Scorer,
    dataset: DatasetConfig,
    *,
    length: int,
    stride: int | None = None,
    seed: int = 42,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """(metrics of one source, (documents, 2) the bits and the bytes of each document).

    The metrics have two more entries: ``window``, and ``malformed``, the number of rows left out. ``stride``:
    None for half of ``length``. ``progress`` is called with numbers of documents. Raises UserError where no
    row can be scored, and where more rows are malformed than training allows by default.
    """
    stride = stride or max(1, length // 2)
    sums: list[Sums] = []
    problems: list[str] = []
    for chunk in _chunks(read_documents(dataset, scorer.tokenizer), _TOGETHER):
        documents = [item for item in chunk if isinstance(item, ScoredDocument)]
        problems += [str(item) for item in chunk if isinstance(item, MalformedRow)]
        if len(sums) + len(chunk) >= _ROWS_BEFORE_SHARES_COUNT:
            _check_malformed(dataset, problems, len(sums) + len(documents))
        sums += score_documents(scorer, documents, length=length, stride=stride)
        if progress is not None:
            progress(len(chunk))
    if sums:
        _check_malformed(dataset, problems, len(sums))
    if not any(each.tokens for each in sums):
        shown = f" The first: {problems[0]}" if problems else ""
        raise UserError(
            f"{dataset.path}: no token of its {len(sums) + len(problems)} rows can be scored.{shown}"
        )
    metrics = perplexity_metrics(sums, seed=seed)
    metrics |= {"window": {"length": length, "stride": stride}, "malformed": len(problems)}
    return metrics, np.array([[each.nll / math.log(2), each.bytes] for each in sums])
