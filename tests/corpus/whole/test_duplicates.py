"""Exact and near duplicates, and repeated paragraphs: by planted copies, by probability, whatever the
order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_align.corpus import minhash_match_probability
from hf_align.corpus.document import Document, Verdict
from hf_align.corpus.whole.exact import ExactDuplicates
from hf_align.corpus.whole.minhash import NearDuplicates, clusters, jaccard
from hf_align.corpus.whole.paragraphs import ParagraphDuplicates

WORDS = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(500)]


def documents(texts: Sequence[str]) -> list[Document]:
    return [Document(f"f:{number}", text) for number, text in enumerate(texts)]


def verdicts(step: Any, *shards: list[Document]) -> list[Verdict]:
    scans = [step.scan(shard, Path()) for shard in shards]
    decision = step.decide(scans, lambda number: shards[number])
    return [
        verdict
        for shard, arrays in zip(shards, decision.shards, strict=True)
        for verdict in step.apply(shard, arrays)
    ]


def prose(rng: random.Random, length: int = 120) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def test_equal_but_for_case_numbers_and_marks() -> None:
    texts = ["Call 12 times!", "call 99 times", "CALL 1 TIMES…", "other", "---", "***"]
    kept = [
        verdict.keep for verdict in verdicts(ExactDuplicates(), documents(texts[:3]), documents(texts[3:]))
    ]
    assert kept == [True, False, False, True, True, True]
    assert all(verdict.keep for verdict in verdicts(ExactDuplicates(normalize=False), documents(texts)))


def test_the_longest_may_stay() -> None:
    texts = ["a b", "a  b!!", "A b."]
    kept = [verdict.keep for verdict in verdicts(ExactDuplicates(keep="longest"), documents(texts))]
    assert kept == [False, True, False]


@pytest.mark.parametrize("verify", [False, True])
def test_planted_copies_and_nothing_else_go(verify: bool) -> None:
    rng = random.Random(0)
    texts = [prose(rng) for _ in range(60)]
    edited = texts[7].split()
    edited[60] = "changed"
    made = documents([*texts, texts[3], " ".join(edited)])
    found = verdicts(NearDuplicates(verify=verify), made[:20], made[20:])
    assert [number for number, verdict in enumerate(found) if not verdict.keep] == [60, 61]


def test_the_order_of_the_documents_does_not_change_how_many_stay() -> None:
    rng = random.Random(1)
    texts = [prose(rng) for _ in range(20)]
    texts += [f"{text} end" for text in texts[:5]] + texts[:3]
    counts = set()
    for _ in range(4):
        rng.shuffle(texts)
        counts.add(sum(verdict.keep for verdict in verdicts(NearDuplicates(), documents(texts))))
    assert counts == {20}


def test_similarity_is_estimated_without_bias() -> None:
    step, rng = NearDuplicates(), random.Random(2)
    base = prose(rng, 300).split()
    for changed in (10, 40, 100):
        other = [*base[:-changed], *rng.choices(WORDS, k=changed)]
        one, two = step.grams(" ".join(base)), step.grams(" ".join(other))
        true = jaccard(one, two)
        estimate = float((step.signature(one) == step.signature(two)).mean())
        assert abs(estimate - true) < 4 * np.sqrt(true * (1 - true) / 112) + 1e-9


def test_the_chance_to_meet_by_its_formula() -> None:
    # FineWeb's 14 bands of 8 rows
    found = [minhash_match_probability(s, bands=14, rows=8) for s in (0.5, 0.7, 0.8, 0.9)]
    assert found == pytest.approx([0.0533, 0.5645, 0.9235, 0.9996], abs=1e-4)


def test_chains_are_one_cluster() -> None:
    bands = np.array([[1, 9], [1, 2], [3, 2], [4, 5]], dtype=np.uint64)
    assert clusters(bands).tolist() == [0, 0, 0, 3]


def test_short_texts_are_left_to_the_exact_step() -> None:
    assert all(verdict.keep for verdict in verdicts(NearDuplicates(), documents(["one two three four"] * 2)))


def test_a_paragraph_stays_as_often_as_it_may() -> None:
    notice = "all rights are reserved and this notice stands below every single page of the site"
    texts = [f"{name} begins here\n\n{notice}" for name in ("one", "two", "three")] + [notice]
    found = verdicts(ParagraphDuplicates(max_occurrences=2), documents(texts[:2]), documents(texts[2:]))
    assert [verdict.text for verdict in found] == [None, None, "three begins here", None]
    assert (found[3].keep, found[3].reason) == (False, "repeated_paragraphs")
    assert all(verdict.keep for verdict in verdicts(ParagraphDuplicates(), documents(["Contents"] * 3)))
