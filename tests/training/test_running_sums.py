"""Sums over steps come back from a checkpoint exactly."""

from __future__ import annotations

import json

import pytest
from helpers.trainer_states import ARGS, control, state

from hf_align.training import callbacks
from hf_align.training.running_sums import RunningSums


def test_sums_are_restored_exactly_through_json() -> None:
    sums = RunningSums()
    sums.add(loss=0.1, steps=1, tokens=7, units=3, seconds=0.25)
    sums.start_interval()
    sums.add(loss=1 / 3, steps=1)
    saved = json.loads(json.dumps({"RunningSums": sums.state()}))
    again = RunningSums()
    again.on_train_begin(ARGS, state(stateful_callbacks=saved), control())
    assert again.interval == {"loss": 1 / 3, "steps": 1.0, "tokens": 0.0, "units": 0.0, "seconds": 0.0}
    assert again.total["loss"] == 0.1 + 1 / 3
    assert again.total["tokens"] == 7


@pytest.mark.parametrize("name", ["RunningSums", "EarlyStopping"])
def test_a_checkpoint_without_their_state_gets_an_entry(name: str) -> None:
    begun = state()
    callback = RunningSums() if name == "RunningSums" else callbacks.EarlyStopping(2)
    callback.on_train_begin(ARGS, begun, control())
    assert begun.stateful_callbacks[name] == callback.state()
