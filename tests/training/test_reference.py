"""Log-probabilities of the reference before training: right for every row, kept, and never stale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import tiny_model

import hf_align
from hf_align.data.comparison_batches import collate_comparisons
from hf_align.errors import UserError
from hf_align.modeling.packing_probe import enable_segment_attention
from hf_align.modeling.target_head import install_target_head
from hf_align.training import reference_store
from hf_align.training.reference import ReferencedRows, ReferencePass, reference_logps, row_digests
from hf_align.training.reference_store import run_reference
from hf_align.types import ComparisonRow, TokenizedRow

SHAPES = [(6, (5, 9)), (0, (12, 3)), (11, (4, 4, 7)), (3, (2, 15)), (8, (7, 6)), (20, (3, 10, 2, 5))]
ROWS = [random_comparison(prefix, answers, seed=i) for i, (prefix, answers) in enumerate(SHAPES)]
TARGETS = sum(row.target_tokens for row in ROWS)
CODE = reference_store._code


class Counting(torch.nn.Module):
    """How often the model runs."""

    def __init__(self, family: str = "llama", seed: int = 0) -> None:
        super().__init__()
        self.model = ready(family, seed=seed)
        self.config = self.model.config
        self.runs = 0

    def forward(self, **inputs: Any) -> Any:
        self.runs += 1
        return self.model(**inputs)


def ready(family: str = "llama", *, seed: int = 0) -> Any:
    model = tiny_model(family, seed=seed)
    enable_segment_attention(model)
    install_target_head(model)
    return model


def how(layout: Any = "shared", max_tokens: int = 40, **options: Any) -> ReferencePass:
    collate = partial(collate_comparisons, packed=layout != "padded", share_prefix=layout == "shared")
    return ReferencePass(
        collate, layout, max_tokens, **{"precision": "fp32", "device": torch.device("cpu"), **options}
    )


def expected(row: ComparisonRow, family: str = "llama", seed: int = 0) -> list[np.ndarray]:
    """Each sequence by itself through the model as transformers has it, and log_softmax of its logits."""
    model = tiny_model(family, seed=seed)
    found = []
    for k in range(len(row.branches)):
        sequence = row.sequence(k)
        ids = torch.from_numpy(sequence.input_ids.astype(np.int64))
        with torch.no_grad():
            logps = torch.log_softmax(model(ids.unsqueeze(0)).logits[0].double(), dim=-1)
        places = np.flatnonzero(sequence.target_mask)
        found.append(np.array([float(logps[place - 1, ids[place]]) for place in places]))
    return found


def assert_right(rows: Sequence[ComparisonRow], family: str = "llama", seed: int = 0) -> None:
    for row in rows:
        assert row.reference_logps is not None
        for given, right in zip(row.reference_logps, expected(row, family, seed), strict=True):
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, right, atol=2e-5)


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
    monkeypatch.setattr("hf_align.training.reference._ROWS_OF_A_CHUNK", 2)
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


def _other_weights(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    with torch.no_grad():
        model.model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    return {}


def _other_rows(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"rows": [*ROWS[:-1], random_comparison(2, (3, 3), seed=77)]}


def _other_layout(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"how": how("packed")}


def _other_precision(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"how": how(precision="bf16")}


def _other_attention(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    model.model.set_attn_implementation("eager")
    return {"first": how("padded"), "how": how("padded")}


def _other_code(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setattr(reference_store, "_code", lambda: {"torch": "1.0"})
    return {}


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
