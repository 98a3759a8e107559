"""Text of benchmarks is found in the corpus by n-grams of words, and cut out or removed with its document.

``gpt3`` is the rule of GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C): 13-grams; a hit takes the
n-gram and 200 characters at each side; pieces of fewer than 200 characters go; a document in more than 10
pieces goes; an n-gram in more than 10 documents is boilerplate and counts no more. Its pieces stay one
document here, with a blank line between them. ``document`` removes every document with a hit. How much of
each example is in the corpus is measured as Llama 3 does (arXiv 2407.21783, section 5.1.4): the share of its
tokens in a common 8-gram.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_align.corpus.document import KEPT, Document, Verdict
from hf_align.corpus.rules.gopher import gram_codes
from hf_align.corpus.text_units import digest, word_spans, words
from hf_align.corpus.whole.base import Arrays, Decision, NothingToPrepare, Read
from hf_align.errors import UserError

COVERAGE_GRAM = 8
_CONTAMINATED = 0.8
"""Share of an example's tokens from which the report counts it as contaminated."""
_SHOWN = 5


@dataclass(frozen=True)
class Example:
    """One row of a benchmark. ``texts``: each of its texts, and all of them together."""

    benchmark: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """Codes of the n-grams of benchmarks. ``grams``: by size, sorted; examples shorter than the size count as
    a whole. ``coverage``: all 8-grams, sorted."""

    examples: tuple[Example, ...]
    grams: dict[int, np.ndarray]
    coverage: np.ndarray


@functools.lru_cache(maxsize=2)
def read_index(paths: tuple[str, ...], ngram: int) -> Index:
    """The index of the rows of local files. Raises UserError for a benchmark without a text that is long
    enough."""
    from hf_align.config.data import DatasetConfig
    from hf_align.data.reading.sources import read_rows

    examples = []
    for path in paths:
        rows = [row.values for row in read_rows(DatasetConfig(path)) if row.values is not None]
        found = [Example(path, texts) for texts in map(_texts, rows) if texts]
        if not any(len(words(text)) >= COVERAGE_GRAM for example in found for text in example.texts):
            raise UserError(
                f"steps: decontaminate: {path} has no text of at least {COVERAGE_GRAM} words; no n-gram of "
                "it could be found."
            )
        examples += found
    grams: dict[int, set[int]] = {}
    coverage: set[int] = set()
    for example in examples:
        for text in example.texts:
            codes = word_numbers(words(text.lower()))
            size = min(ngram, len(codes))
            if size >= COVERAGE_GRAM:
                grams.setdefault(size, set()).update(gram_codes(codes, size).tolist())
                coverage.update(gram_codes(codes, COVERAGE_GRAM).tolist())
    return Index(tuple(examples), {size: _sorted(found) for size, found in grams.items()}, _sorted(coverage))


def _sorted(codes: set[int]) -> np.ndarray:
    return np.array(sorted(codes), dtype=np.uint64)


def _texts(values: Any) -> tuple[str, ...]:
    """The texts in a row, lists and mappings included; and all together, since a question and its answer may
    stand together in a document."""
    found = [text for text in _strings(values) if text.strip()]
    return (*found, " ".join(found)) if len(found) > 1 else tuple(found)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def word_numbers(found: Sequence[str]) -> np.ndarray:
    """A number for each word, the same in every document, (W,) of uint64."""
    numbers = {word: int.from_bytes(digest(word, 8), "big") for word in set(found)}
    return np.array([numbers[word] for word in found], dtype=np.uint64)


@dataclass(frozen=True)
class Decontaminate(NothingToPrepare):
    """``benchmarks``: local files. ``ngram``: words an n-gram. ``max_documents``: an n-gram in more documents
    is no sign of a benchmark. ``window``, ``min_piece``: characters. See the module for the two rules."""

    benchmarks: tuple[str, ...]
    rule: Literal["gpt3", "document"] = "gpt3"
    ngram: int = 13
    window: int = 200
    min_piece: int = 200
    max_pieces: int = 10
    max_documents: int = 10

    @property
    def index(self) -> Index:
        return read_index(self.benchmarks, self.ngram)

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        index = self.index
        hits: list[np.ndarray] = []
        covered: list[np.ndarray] = []
        for document in documents:
            codes = word_numbers(words(document.text.lower()))
            own = [np.intersect1d(gram_codes(codes, size), known) for size, known in index.grams.items()]
            hits.append(np.unique(np.concatenate(own)) if own else np.zeros(0, np.uint64))
            covered.append(np.intersect1d(gram_codes(codes, COVERAGE_GRAM), index.coverage))
        empty = np.zeros(0, dtype=np.uint64)
        return {
            # A code once for each document that has it
            "hits": np.concatenate([empty, *hits]),
            "covered": np.unique(np.concatenate([empty, *covered])),
            "documents": np.array([len(documents)], dtype=np.int64),
        }

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        codes, counts = np.unique(np.concatenate([scan["hits"] for scan in scans]), return_counts=True)
        active = codes[counts <= self.max_documents]
        covered = np.unique(np.concatenate([scan["covered"] for scan in scans]))
        found = {
            "ngrams": len(codes),
            "boilerplate": int((counts > self.max_documents).sum()),
            "benchmarks": [self._benchmark(path, active, covered) for path in self.benchmarks],
        }
        return Decision([{"active": active} for _ in scans], found)

    def _benchmark(self, path: str, active: np.ndarray, covered: np.ndarray) -> dict[str, Any]:
        shares, hit, shown = [], 0, []
        for example in self.index.examples:
            if example.benchmark != path:
                continue
            text = example.texts[-1]
            codes = word_numbers(words(text.lower()))
            share = coverage(codes, covered)
            shares.append(share)
            size = min(self.ngram, len(codes))
            touched = size >= COVERAGE_GRAM and bool(np.isin(gram_codes(codes, size), active).any())
            hit += touched
            if touched and len(shown) < _SHOWN:
                shown.append({"text": text[:300], "share": share})
        return {
            "name": path,
            "examples": len(shares),
            "touched": hit,
            "contaminated": sum(share >= _CONTAMINATED for share in shares),
            "mean_share": sum(shares) / max(1, len(shares)),
            "shown": shown,
        }

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        active = decided["active"]
        return (self._verdict(document.text, active) for document in documents)

    def _verdict(self, text: str, active: np.ndarray) -> Verdict:
        if not len(active):
            return KEPT
        spans = word_spans(text)
        codes = word_numbers([text[start:end].lower() for start, end in spans])
        cuts = []
        for size in self.index.grams:
            for place in np.flatnonzero(np.isin(gram_codes(codes, size), active)).tolist():
                cuts.append((spans[place][0], spans[place + size - 1][1]))
        if not cuts:
            return KEPT
        if self.rule == "document":
            return Verdict(False, "contaminated", len(cuts), 0.0)
        pieces = outside(text, [(max(0, start - self.window), end + self.window) for start, end in cuts])
        if len(pieces) > self.max_pieces:
            return Verdict(False, "contaminated_pieces", len(pieces), self.max_pieces)
        kept = [piece.strip() for piece in pieces if len(piece) >= self.min_piece]
        if not kept:
            return Verdict(False, "contaminated", len(cuts), 0.0)
        return Verdict(text="\n\n".join(kept), edits={"contaminated_passages": len(cuts)})


def coverage(codes: np.ndarray, covered: np.ndarray) -> float:
    """The share of the words (W,) that are in one of the 8-grams ``covered``."""
    inside = np.zeros(len(codes), dtype=bool)
    for place in np.flatnonzero(np.isin(gram_codes(codes, COVERAGE_GRAM), covered)).tolist():
        inside[place : place + COVERAGE_GRAM] = True
    return float(inside.mean()) if len(inside) else 0.0


def outside(text: str, cuts: Sequence[tuple[int, int]]) -> list[str]:
    """What is left of ``text`` beside the ``cuts`` (start, end), in order."""
    pieces, end = [], 0
    for start, stop in sorted(cuts):
        if start > end:
            pieces.append(text[end:start])
        end = max(end, stop)
    if end < len(text):
        pieces.append(text[end:])
    return pieces
