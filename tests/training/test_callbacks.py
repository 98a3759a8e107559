"""What the callbacks of a run keep across a checkpoint, and when they act."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.trainer_states import ARGS, control, state

from hf_align.runs import signals
from hf_align.training import callbacks


def test_time_goes_on_where_the_earlier_part_ended(tmp_path: Path) -> None:
    writer = callbacks.MetricsWriter(str(tmp_path), earlier_seconds=500.0)
    writer.on_log(ARGS, state(), control(), {"loss": 1.5})
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["time_seconds"] >= 500.0
    assert (line["step"], line["loss"]) == (3, 1.5)


def test_early_stopping_restores_its_count_and_stops_where_it_had_stopped() -> None:
    first = callbacks.EarlyStopping(2)
    begun = state()
    first.on_train_begin(ARGS, begun, control())
    for loss in (1.0, 2.0):
        first.on_evaluate(ARGS, state(best_metric=1.0), control(), {"eval_loss": loss})
    saved = {"EarlyStopping": first.state()}
    assert first.early_stopping_patience_counter == 2
    again, told = callbacks.EarlyStopping(2), control()
    again.on_train_begin(ARGS, state(stateful_callbacks=saved), told)
    assert told.should_training_stop
    told = control()
    callbacks.EarlyStopping(3).on_train_begin(ARGS, state(stateful_callbacks=saved), told)
    assert not told.should_training_stop, "more patience than before"


@pytest.mark.parametrize(
    ("step", "epoch", "at_step_end", "at_epoch_end"),
    [(4, 0.7, True, False), (6, 1.0, False, True), (12, 1.5, False, True)],
    ids=["inside_an_epoch", "its_last_step", "the_last_step_of_all"],
)
def test_a_save_at_the_end_of_an_epoch_waits_for_its_evaluation(
    step: int, epoch: float, at_step_end: bool, at_epoch_end: bool
) -> None:
    callback = signals.SaveAndStop(signals.StopRequest())
    now, told = state(global_step=step, epoch=epoch), control()
    callback.on_train_begin(ARGS, state(global_step=0), told)
    told.should_save = True
    callback.on_step_end(ARGS, now, told)
    assert told.should_save is at_step_end
    told.should_save = False
    callback.on_epoch_end(ARGS, now, told)
    assert told.should_save is at_epoch_end


def test_the_action_at_the_start_is_called_once() -> None:
    calls: list[int] = []
    callbacks.AtStart(lambda: calls.append(1)).on_train_begin(ARGS, state(), control())
    assert calls == [1]
