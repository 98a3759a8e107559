"""Paragraphs that occur too often in the corpus, such as menus and notices, are cut out of later documents.

As in CCNet (Wenzek et al. 2020, arXiv 1911.00359), with a number of occurrences that may stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_align.corpus.document import KEPT, Document, Verdict
from hf_align.corpus.text_units import digest, normal_form, words
from hf_align.corpus.whole.base import Arrays, Decision, NothingToPrepare, Read

_SHOWN = 10


@dataclass(frozen=True)
class ParagraphDuplicates(NothingToPrepare):
    """``max_occurrences`` of a paragraph stay, the first ones; paragraphs below ``min_words`` words, such as
    headings, always. ``unit``: paragraphs between blank lines, or single lines."""

    max_occurrences: int = 1
    min_words: int = 10
    unit: str = "paragraph"

    def _units(self, document: Document) -> list[str]:
        return document.lines if self.unit == "line" else document.paragraphs

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        found, lengths = [], []
        for document in documents:
            units = self._units(document)
            # 0 stands for a unit that is too short to be compared.
            found += [
                int.from_bytes(digest(normal_form(unit), 8), "big") | 1
                if len(words(unit)) >= self.min_words
                else 0
                for unit in units
            ]
            lengths.append(len(units))
        return {"digests": np.array(found, dtype=np.uint64), "lengths": np.array(lengths, dtype=np.int64)}

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        digests = np.concatenate([scan["digests"] for scan in scans])
        order = np.argsort(digests, kind="stable")
        values = digests[order]
        starts = np.ones(len(values), dtype=bool)
        starts[1:] = values[1:] != values[:-1]
        group = np.cumsum(starts) - 1
        rank = np.arange(len(values)) - np.flatnonzero(starts)[group] if len(values) else order
        again = np.zeros(len(values), dtype=bool)
        again[order] = (rank >= self.max_occurrences) & (values != 0)
        ends = np.cumsum([len(scan["digests"]) for scan in scans])[:-1]
        parts = np.split(again, ends)
        sizes = np.bincount(group[values != 0]) if len(values) else np.zeros(0, np.int64)
        found = {
            f"{self.unit}s": int((digests != 0).sum()),
            "removed": int(again.sum()),
            "most_frequent": int(sizes.max()) if len(sizes) else 0,
            "shown": self._most_frequent(scans, digests, read),
        }
        return Decision([{"removed": part} for part in parts], found)

    def _most_frequent(
        self, scans: Sequence[Arrays], digests: np.ndarray, read: Read
    ) -> list[dict[str, object]]:
        known, first, counts = np.unique(digests, return_index=True, return_counts=True)
        rows = [(int(c), int(f)) for k, f, c in zip(known, first, counts, strict=True) if k and c > 1]
        shown: list[dict[str, object]] = []
        ends = np.cumsum([len(scan["digests"]) for scan in scans])
        for count, place in sorted(rows, reverse=True)[:_SHOWN]:
            shard = int(np.searchsorted(ends, place, side="right"))
            inside = place - (int(ends[shard - 1]) if shard else 0)
            lengths = np.cumsum(scans[shard]["lengths"])
            number = int(np.searchsorted(lengths, inside, side="right"))
            document = read(shard)[number]
            unit = self._units(document)[inside - (int(lengths[number - 1]) if number else 0)]
            shown.append({"count": count, "text": unit[:300]})
        return shown

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        removed, place = decided["removed"].tolist(), 0
        for document in documents:
            units = self._units(document)
            flags = removed[place : place + len(units)]
            place += len(units)
            yield self._cut(units, flags)

    def _cut(self, units: Sequence[str], flags: Sequence[bool]) -> Verdict:
        if not any(flags):
            return KEPT
        kept = [unit for unit, flag in zip(units, flags, strict=True) if not flag]
        edits = Counter({f"{self.unit}s": sum(flags)})
        share = sum(flags) / len(flags)
        values = {"repeated_share": share}
        if not kept:
            return Verdict(False, f"repeated_{self.unit}s", share, 1.0, values=values, edits=edits)
        joint = "\n" if self.unit == "line" else "\n\n"
        return Verdict(text=joint.join(kept), values=values, edits=edits)
