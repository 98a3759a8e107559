"""Benchmark text in a corpus: cut out as GPT-3 did, or removed with its document; shares as Llama 3
counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from corpus.whole.test_duplicates import documents, verdicts  # type: ignore[import-not-found]

from hf_align.corpus.whole.contamination import Decontaminate, coverage, outside
from hf_align.errors import UserError

QUESTION = "which of the seven rivers of the northern valley carries the most water in a dry summer month"
FILLER = " ".join(f"filler{n} stands here as plain text" for n in range(60))


def benchmark(folder: Path) -> str:
    path = folder / "bench.jsonl"
    path.write_text(json.dumps({"question": QUESTION, "answer": "the third one"}) + "\n")
    return str(path)


def test_a_hit_takes_its_surroundings_and_leaves_the_rest(tmp_path: Path) -> None:
    step = Decontaminate((benchmark(tmp_path),))
    clean, hit = documents([FILLER, f"{FILLER} {QUESTION.upper()} {FILLER}"])
    kept, cut = verdicts(step, [clean, hit])
    assert kept.keep and kept.text is None
    assert cut.keep and cut.text is not None and "rivers" not in cut.text.lower()
    assert len(cut.text) < 2 * len(FILLER) - 350
    (gone,) = verdicts(Decontaminate((benchmark(tmp_path),), rule="document"), [hit])
    assert (gone.keep, gone.reason) == (False, "contaminated")


def test_what_many_documents_have_is_boilerplate(tmp_path: Path) -> None:
    step = Decontaminate((benchmark(tmp_path),), rule="document", max_documents=2)
    assert all(verdict.keep for verdict in verdicts(step, documents([QUESTION] * 3)))


def test_the_report_counts_examples(tmp_path: Path) -> None:
    step = Decontaminate((benchmark(tmp_path),))
    scan = step.scan(documents([f"{FILLER} {QUESTION}"]), tmp_path)
    (found,) = step.decide([scan], lambda number: []).found["benchmarks"]
    assert (found["examples"], found["touched"], found["contaminated"]) == (1, 1, 1)


def test_pieces_and_shares_by_hand() -> None:
    assert outside("0123456789", [(2, 4), (3, 6)]) == ["01", "6789"]
    assert coverage(np.arange(10, dtype=np.uint64), np.zeros(0, np.uint64)) == 0.0


def test_a_benchmark_without_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text('{"question": "too short"}\n')
    with pytest.raises(UserError, match="has no text of at least 8 words"):
        Decontaminate((str(path),)).scan(documents(["x"]), tmp_path)
