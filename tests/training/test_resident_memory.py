"""Memory of a run does not grow with its length: resident memory is flat once every length has come."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.resident_memory import resident_memory

STEPS, WARM = 2000, 800
GROWTH = 1.06
"""What is allowed from the warm-up to the end. Before lengths came again, SFT grew by two thirds in this
time."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("command", ["sft", "dpo", "ppo"])
def test_memory_is_flat_after_the_warm_up(command: str, tmp_path: Path) -> None:
    memory = resident_memory(command, tmp_path, STEPS)
    assert len(memory) >= STEPS
    start, end = memory[WARM - 50 : WARM + 50], memory[-100:]
    assert sum(end) / len(end) < GROWTH * sum(start) / len(start), memory[::100]
