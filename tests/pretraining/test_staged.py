"""A schedule of stages: the steps of each, with its own rows, and every row once a pass."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.token_documents import selection

from hf_align.pretraining.blocks import BlockForm, BlockRows
from hf_align.pretraining.staged import StagedRows, StageRows

DOCUMENTS = [[10 + n] * 8 for n in range(6)]


def staged() -> StagedRows:
    short = BlockRows(selection(DOCUMENTS), BlockForm(length=4))
    long = BlockRows(selection(DOCUMENTS[:2]), BlockForm(length=8))
    return StagedRows([StageRows(short, 5, 4), StageRows(long, 3, 2)], seed=7)


def test_the_steps_of_each_stage_in_turn():
    steps = list(staged().step_sampler(rank=0, world_size=1))
    assert [step[0][0] for step in steps] == [0] * 5 + [1] * 3
    assert len(staged().step_sampler(rank=0, world_size=1)) == len(steps)
    # 12 blocks in steps of 4: three steps a pass.
    first = Counter(key[2] for step in steps[:3] for key in step)
    assert first == Counter(range(12))
    assert {key[1] for step in steps[:5] for key in step} == {0, 1}
    assert [sorted(key[2] for key in step) for step in steps[5:]] == [[0, 1]] * 3


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_rows_of_each_step(processes):
    whole = list(staged().step_sampler(rank=0, world_size=1))
    parts = [list(staged().step_sampler(rank=rank, world_size=processes)) for rank in range(processes)]
    for step, shares in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(step) == sorted(key for share in shares for key in share)


def test_rows_have_the_length_of_their_stage_and_noise_of_their_own():
    rows = staged()
    assert len(rows[0, 0, 0]) == 4 and len(rows[1, 0, 0]) == 8
    epochs = {rows[key].example["epoch"] for key in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]}
    assert len(epochs) == 4
