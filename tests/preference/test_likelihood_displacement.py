"""The fall of the chosen answers' log-probabilities is noticed, once, with its numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from hf_align.preference.likelihood_displacement import LikelihoodDisplacement


def log(watch: LikelihoodDisplacement, step: int, **metrics: Any) -> None:
    logs = {key.replace("chosen_change", "logps/chosen_change"): value for key, value in metrics.items()}
    watch.on_log(None, SimpleNamespace(global_step=step), None, logs=logs)


def test_a_fall_beyond_the_bound_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = LikelihoodDisplacement(0.5)
    log(watch, 1, chosen_change=0.2)
    log(watch, 2, chosen_change=-0.5)
    assert not caplog.records
    log(watch, 3, chosen_change=-0.7)
    log(watch, 4, chosen_change=-2.0)
    (record,) = caplog.records
    text = record.getMessage()
    # exp(-0.7) = 0.4966: half of the probability is gone.
    for part in ("step 3", "training rows", "0.70 nats per token", "chosen_fall_warning: 0.5", "50 %"):
        assert part in text
    for remedy in ("sft_weight", "learning rate", "beta"):
        assert remedy in text
    assert watch.record == {"bound": 0.5, "lowest": -2.0, "step": 4, "warned_at": 3}


def test_held_out_rows_count_as_well(caplog: pytest.LogCaptureFixture) -> None:
    watch = LikelihoodDisplacement(0.1)
    watch.on_log(None, SimpleNamespace(global_step=7), None, logs={"eval_logps/chosen_change": -0.2})
    assert "step 7" in caplog.text and "held-out rows" in caplog.text


def test_without_a_bound_it_only_takes_notes(caplog: pytest.LogCaptureFixture) -> None:
    watch = LikelihoodDisplacement(None)
    log(watch, 3, chosen_change=-9.0)
    log(watch, 4, chosen_change=math.nan)
    log(watch, 5, loss=1.0)
    watch.on_log(None, SimpleNamespace(global_step=6), None, logs=None)
    assert not caplog.records
    assert watch.record == {"bound": None, "lowest": -9.0, "step": 3, "warned_at": None}


def test_a_resumed_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    watch = LikelihoodDisplacement(0.5, earlier={"bound": 0.5, "lowest": -0.8, "step": 3, "warned_at": 3})
    log(watch, 9, chosen_change=-0.7)
    assert not caplog.records
    assert watch.record == {"bound": 0.5, "lowest": -0.8, "step": 3, "warned_at": 3}
