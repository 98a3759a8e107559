"""Log-probabilities of the reference before training: right for every row, kept, and never stale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.referenced_rows import ROWS, assert_right, how, ready

from hf_align.errors import UserError
from hf_align.preference.reference import ReferencedRows, reference_logps
from hf_align.preference.reference_store import run_reference
from hf_align.types import ComparisonRow


@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
def test_every_target_gets_the_log_probability_that_it_has_alone(layout: str, max_tokens: int) -> None:
    model = ready().train()
    (rows,), _ = run_reference(model, [ROWS], how(layout, max_tokens), folder=None)
    assert model.training
    assert len(rows) == len(ROWS)
    assert_right(rows)


def test_the_reference_is_run_without_dropout() -> None:
    model = ready().train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    (rows,), _ = run_reference(model, [ROWS], how(), folder=None)
    assert_right(rows)


def test_a_model_that_cannot_be_packed(tmp_path: Path) -> None:
    rows = [row for row in ROWS if len(row.prefix)]
    (found,), _ = run_reference(ready("bloom"), [rows], how("padded"), folder=tmp_path)
    assert_right(found, "bloom")


def test_shares_of_several_processes_add_up_to_the_same_bits() -> None:
    model = ready()
    whole = reference_logps(model, ROWS, how())
    for count in (2, 3, 50):
        parts = [reference_logps(model, ROWS, how(), share=(i, count)) for i in range(count)]
        assert np.array_equal(np.sum(parts, axis=0, dtype=np.float32), whole)
        assert sum(np.count_nonzero(part) for part in parts) == np.count_nonzero(whole)


def test_many_rows_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reference_logps(ready(), ROWS, how())
    monkeypatch.setattr("hf_align.preference.reference._ROWS_OF_A_CHUNK", 2)
    np.testing.assert_allclose(reference_logps(ready(), ROWS, how()), whole, atol=2e-5)


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = ready()
    with torch.no_grad():
        model.model.embed_tokens.weight[int(ROWS[3].branches[1].input_ids[4])] = torch.nan
    with pytest.raises(UserError, match=r"random:\d.*not finite"):
        run_reference(model, [ROWS], how(), folder=None)


def test_rows_carry_their_log_probabilities_into_a_batch() -> None:
    (rows,), _ = run_reference(ready(), [ROWS], how(), folder=None)
    batch = how().collate([rows[4], rows[2]])
    expected_logps = np.concatenate([*rows[4].reference_logps, *rows[2].reference_logps])
    assert batch.reference_logps is not None
    assert np.array_equal(batch.reference_logps.numpy(), expected_logps)
    assert len(batch.reference_logps) == batch.inputs.target_tokens
    part = rows[1:5:3]
    assert isinstance(part, ReferencedRows) and [row.source for row in part] == ["random:1", "random:4"]
    assert_right(part)
    with pytest.raises(IndexError):
        rows[len(ROWS)]


def test_the_fingerprint_is_that_of_the_rows() -> None:
    class Printed(list[ComparisonRow]):
        fingerprint = "of the rows"

    rows = Printed(ROWS)
    (found,), _ = run_reference(ready(), [rows], how(), folder=None)
    assert found.fingerprint == "of the rows"


def test_a_set_without_rows() -> None:
    (rows, none), facts = run_reference(ready(), [ROWS[:1], []], how(), folder=None)
    assert (len(rows), len(none), facts.rows) == (1, 0, 1)
