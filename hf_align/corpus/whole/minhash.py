"""Near duplicates by MinHash and locality-sensitive hashing (Broder 1997), as FineWeb has it by default.

Word n-grams of the normal form are hashed; of each of ``bands * rows`` functions the least value over a
document's n-grams is kept, and two documents are candidates where all rows of a band agree, which happens
with probability 1 - (1 - s^rows)^bands for Jaccard similarity s. Candidates are joined into clusters; one
document of each stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.corpus.document import KEPT, Document, Verdict
from hf_align.corpus.rules.gopher import gram_codes
from hf_align.corpus.text_units import digest, normal_form, words
from hf_align.corpus.whole.base import Arrays, Decision, NothingToPrepare, Read, offsets, split

_SHOWN_CLUSTERS, _SHOWN_MEMBERS, _SHOWN_CHARACTERS = 8, 4, 300
_CHUNK = 4096


@dataclass(frozen=True)
class NearDuplicates(NothingToPrepare):
    """``ngram``: words an n-gram. ``bands``, ``rows``: see above. ``seed``: of the hash functions.

    ``verify``: documents of a cluster are compared with those of it that stay, by the exact Jaccard
    similarity of their n-grams, and go only where it is at least ``min_similarity``; without it a chain of
    candidates is one cluster. Documents with fewer than ``ngram`` words have no n-gram and are left to the
    exact step.
    """

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 1
    verify: bool = False
    min_similarity: float = 0.7

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        factors, shifts = self._functions()
        bands = np.zeros((len(documents), self.bands), dtype=np.uint64)
        known = np.zeros(len(documents), dtype=bool)
        for place, document in enumerate(documents):
            grams = self.grams(document.text)
            if len(grams):
                known[place] = True
                bands[place] = self._bands(grams, factors, shifts)
        return {"bands": bands, "known": known}

    def grams(self, text: str) -> np.ndarray:
        """The different n-grams of a text as sorted numbers, (G,) of uint64."""
        found = words(normal_form(text))
        codes: dict[str, int] = {word: int.from_bytes(digest(word, 8), "big") for word in set(found)}
        return np.unique(gram_codes(np.array([codes[word] for word in found], dtype=np.uint64), self.ngram))

    def signature(self, grams: np.ndarray) -> np.ndarray:
        """The least value of every function, (bands * rows,); the share in which two agree estimates their
        Jaccard similarity."""
        return self._least(grams, *self._functions())

    def _functions(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        size = self.bands * self.rows
        factors = rng.integers(0, 2**63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return factors, rng.integers(0, 2**64, size, dtype=np.uint64, endpoint=False)

    @staticmethod
    def _least(grams: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        least = np.full(len(factors), np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(grams), _CHUNK):
            # Multiply, shift the high bits down, multiply again: the low bits alone would depend on low bits.
            mixed = grams[start : start + _CHUNK, None] * factors + shifts
            mixed ^= mixed >> np.uint64(32)
            mixed *= factors
            np.minimum(least, mixed.min(axis=0), out=least)
        return least

    def _bands(self, grams: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        rows = self._least(grams, factors, shifts).reshape(self.bands, self.rows)
        mixed = np.arange(1, self.bands + 1, dtype=np.uint64)
        for column in rows.T:
            mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        return mixed

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        counts = [len(scan["known"]) for scan in scans]
        known = np.flatnonzero(np.concatenate([scan["known"] for scan in scans]))
        bands = np.concatenate([scan["bands"] for scan in scans])
        roots = clusters(bands[known])
        cluster = np.full(sum(counts), -1, dtype=np.int64)
        cluster[known] = known[roots]
        sizes = np.bincount(cluster[known], minlength=sum(counts)) if len(known) else np.zeros(0, np.int64)
        members = known[sizes[cluster[known]] > 1] if len(known) else known
        keeper = np.arange(sum(counts))
        keeper[members] = cluster[members]
        if self.verify:
            keeper[members] = self._verified(members, cluster, counts, read)
        removed = keeper != np.arange(sum(counts))
        kept_sizes = np.bincount(keeper[members], minlength=1)
        found = {
            "duplicates": int(removed.sum()),
            "clusters": int((kept_sizes > 1).sum()),
            "largest_cluster": int(kept_sizes.max()) if len(members) else 0,
            "too_short": int(sum(counts) - len(known)),
            "shown": _shown(keeper, members, counts, read),
        }
        return Decision([{"removed": part} for part in split(removed, counts)], found)

    def _verified(
        self, members: np.ndarray, cluster: np.ndarray, counts: Sequence[int], read: Read
    ) -> np.ndarray:
        """For each of ``members`` the document of its cluster that it goes for, itself where it stays."""
        first = offsets(counts)
        grams: dict[int, np.ndarray] = {}
        shards = np.searchsorted(first, members, side="right") - 1
        for shard in np.unique(shards).tolist():
            documents = read(shard)
            for member in members[shards == shard].tolist():
                grams[member] = self.grams(documents[member - int(first[shard])].text)
        staying: dict[int, list[int]] = {}
        keepers = []
        for member in members.tolist():
            group = staying.setdefault(int(cluster[member]), [])
            near = (other for other in group if jaccard(grams[other], grams[member]) >= self.min_similarity)
            keeper = next(near, member)
            if keeper == member:
                group.append(member)
            keepers.append(keeper)
        return np.array(keepers, dtype=np.int64)

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        gone = Verdict(keep=False, reason="near_duplicate")
        return (gone if removed else KEPT for removed in decided["removed"].tolist())


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Size of the intersection over that of the union of two sorted arrays without repetitions."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(1, len(one) + len(other) - both)


def clusters(bands: np.ndarray) -> np.ndarray:
    """For each row of ``bands`` (N, B) the number of the first row that it is connected with, (N,).

    Rows are connected where any column agrees, and through others (union-find).
    """
    parent = np.arange(len(bands))
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        same = column[order][1:] == column[order][:-1]
        for one, other in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
            one, other = _root(parent, one), _root(parent, other)
            if one != other:
                parent[max(one, other)] = min(one, other)
    for place in range(len(parent)):
        parent[place] = parent[parent[place]]
    return parent


def _root(parent: np.ndarray, place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _shown(
    keeper: np.ndarray, members: np.ndarray, counts: Sequence[int], read: Read
) -> list[dict[str, Any]]:
    """The largest clusters with the beginnings of some of their documents."""
    sizes = np.bincount(keeper[members], minlength=1) if len(members) else np.zeros(1, np.int64)
    largest = [
        int(place) for place in np.argsort(-sizes, kind="stable")[:_SHOWN_CLUSTERS] if sizes[place] > 1
    ]
    first = offsets(counts)
    wanted = {root: members[keeper[members] == root][:_SHOWN_MEMBERS].tolist() for root in largest}
    texts: dict[int, tuple[str, str]] = {}
    places = sorted(place for group in wanted.values() for place in group)
    shards = (np.searchsorted(first, places, side="right") - 1).tolist() if places else []
    for shard in sorted(set(shards)):
        documents = read(shard)
        for place, own in zip(places, shards, strict=True):
            if own == shard:
                document = documents[place - int(first[shard])]
                texts[place] = (document.id, document.text[:_SHOWN_CHARACTERS])
    return [
        {
            "size": int(sizes[root]),
            "documents": [dict(zip(("id", "text"), texts[p], strict=True)) for p in group],
        }
        for root, group in wanted.items()
    ]
