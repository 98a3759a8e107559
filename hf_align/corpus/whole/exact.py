"""Documents that are the same but for case, numbers, punctuation, accents and white space: one stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hf_align.corpus.document import KEPT, Document, Verdict
from hf_align.corpus.text_units import digest, normal_form
from hf_align.corpus.whole.base import Arrays, Decision, NothingToPrepare, Read, split


@dataclass(frozen=True)
class ExactDuplicates(NothingToPrepare):
    """``normalize``: whether texts are compared in normal form, or as they are. ``keep``: the first document
    of a group, or the longest (the first of several).

    Digests have 128 bits: for 10^9 documents the chance that two others collide is below 10^-20.
    """

    normalize: bool = True
    keep: Literal["first", "longest"] = "first"

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        forms = (normal_form(document.text) if self.normalize else document.text for document in documents)
        # A text without words in normal form (a line of dashes) is compared as it is.
        texts = (form or document.text for form, document in zip(forms, documents, strict=True))
        digests = np.frombuffer(b"".join(map(digest, texts)), dtype=">u8").reshape(-1, 2)
        return {
            "digests": digests.astype(np.uint64),
            "lengths": np.array([len(document.text) for document in documents], dtype=np.int64),
        }

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        counts = [len(scan["lengths"]) for scan in scans]
        digests = np.concatenate([scan["digests"] for scan in scans])
        lengths = np.concatenate([scan["lengths"] for scan in scans])
        number = np.arange(len(lengths))
        rank = -lengths if self.keep == "longest" else number
        order = np.lexsort((number, rank, digests[:, 1], digests[:, 0]))
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (digests[order][1:] == digests[order][:-1]).all(axis=1)
        removed = np.zeros(len(order), dtype=bool)
        removed[order] = same
        groups = np.cumsum(~same)
        sizes = np.bincount(groups)
        found = {
            "duplicates": int(removed.sum()),
            "groups": int((sizes > 1).sum()),
            "largest_group": int(sizes.max()) if len(order) else 0,
        }
        return Decision([{"removed": part} for part in split(removed, counts)], found)

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        gone = Verdict(keep=False, reason="exact_duplicate")
        return (gone if removed else KEPT for removed in decided["removed"].tolist())
