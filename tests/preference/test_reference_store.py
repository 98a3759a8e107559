"""Log-probabilities of a reference that are kept: found again, and never where anything would change them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.comparisons import random_comparison
from helpers.referenced_rows import (
    CODE,
    ROWS,
    TARGETS,
    Counting,
    _other_attention,
    _other_code,
    _other_layout,
    _other_precision,
    _other_rows,
    _other_weights,
    assert_right,
    how,
    ready,
)

import hf_align
from hf_align.errors import UserError
from hf_align.preference import reference_store
from hf_align.preference.reference import reference_logps, row_digests
from hf_align.preference.reference_store import run_reference
from hf_align.types import ComparisonRow, TokenizedRow


def test_digests_stand_for_the_tokens_of_a_row() -> None:
    row = random_comparison(4, (3, 5))
    same = random_comparison(4, (3, 5), scores=[0.0, 1.0])
    assert row_digests([row]) == row_digests([same]), "which answer is the better one plays no part"
    moved = ComparisonRow(
        row.prefix[:-1],
        tuple(
            TokenizedRow(
                np.concatenate([row.prefix[-1:], branch.input_ids]),
                np.concatenate([[False], branch.target_mask]),
            )
            for branch in row.branches
        ),
        row.scores,
    )
    mask = row.branches[1].target_mask.copy()
    mask[2] = False
    masked = ComparisonRow(
        row.prefix, (row.branches[0], TokenizedRow(row.branches[1].input_ids, mask)), row.scores
    )
    other_prompt = ComparisonRow(row.prefix[::-1].copy(), row.branches, row.scores)
    others = [moved, masked, other_prompt, random_comparison(4, (3, 5), seed=9), random_comparison(4, (3, 6))]
    assert len(set(row_digests([row, *others]).tolist())) == 6


def test_another_run_finds_what_the_first_one_kept(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    _, made = run_reference(first, [ROWS], how(), folder=tmp_path)
    assert not made.reused and first.runs > 0
    # Shuffled, split, with a row twice, and pairs the other way round: the same rows.
    turned = ComparisonRow(
        ROWS[0].prefix, ROWS[0].branches, ROWS[0].scores[::-1].copy(), source=ROWS[0].source
    )
    sets = [[ROWS[5], ROWS[1], ROWS[3], ROWS[5]], [ROWS[4], turned, ROWS[2]]]
    found, facts = run_reference(second, sets, how(max_tokens=7), folder=tmp_path)
    assert facts.reused and second.runs == 0
    assert facts.entry == made.entry and (facts.rows, facts.target_tokens) == (6, TARGETS)
    for rows, given in zip(found, sets, strict=True):
        assert [row.source for row in rows] == [row.source for row in given]
        assert_right(rows)


@pytest.mark.parametrize(
    "change",
    [_other_weights, _other_rows, _other_layout, _other_precision, _other_attention, _other_code],
)
def test_nothing_stale_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    model = Counting()
    changed = change(model, monkeypatch)
    with pytest.MonkeyPatch.context() as undone:
        undone.setattr(reference_store, "_code", CODE)
        run_reference(Counting(), [ROWS], changed.get("first", how()), folder=tmp_path)
    rows, again = changed.get("rows", ROWS), changed.get("how", how())
    _, facts = run_reference(model, [rows], again, folder=tmp_path)
    assert not facts.reused and model.runs > 0
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 2


def test_the_code_that_takes_part_is_named() -> None:
    package = Path(hf_align.__file__).parent
    assert all(list(package.glob(pattern)) for pattern in reference_store._CODE)
    assert set(reference_store._code()) == {"torch", "transformers", "bitsandbytes", "numpy", "hf_align"}


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed", "manifest"])
def test_a_damaged_entry_is_computed_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, made = run_reference(Counting(), [ROWS], how(), folder=tmp_path)
    path = tmp_path / str(made.entry) / ("manifest.json" if damage == "manifest" else "logps.bin")
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    else:
        content[8] ^= 1
        path.write_bytes(
            content[:-4] if damage == "cut" else content[:12] if damage == "manifest" else content
        )
    model = Counting()
    (rows,), facts = run_reference(model, [ROWS], how(), folder=tmp_path)
    assert not facts.reused and model.runs > 0
    assert "is damaged and is made again" in caplog.text
    assert_right(rows)
    assert run_reference(Counting(), [ROWS], how(), folder=tmp_path)[1].reused


def test_a_model_whose_code_nobody_can_read_is_run_every_time(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reference_store, "model_digest", lambda model: None)
    for _ in range(2):
        model = Counting()
        (rows,), facts = run_reference(model, [ROWS], how(), folder=tmp_path)
        assert model.runs > 0 and facts.entry is None
        assert_right(rows)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_whole_in_every_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(UserError, match="fsdp_cpu_ram_efficient_loading"):
        reference_store._check_whole()
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    reference_store._check_whole()


def test_a_row_that_stands_there_twice_is_known_twice() -> None:
    one, other = ROWS[:2]
    found = reference_logps(ready(), [one, other, one], how())
    first, last = found[: one.target_tokens], found[-one.target_tokens :]
    np.testing.assert_allclose(first, last, rtol=1e-5)
    assert (first < 0).all()
