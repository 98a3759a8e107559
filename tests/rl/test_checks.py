"""What theory says of the first pass of an update and of the start of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.ppo_parts import answers, models, rollout_tools
from helpers.ppo_updates import ASKED, LENGTHS, measured, run, weights

from hf_align.errors import UserError
from hf_align.rl import checks as ppo_checks
from hf_align.rl.episodes import trees_of
from hf_align.rl.models import PpoModels
from hf_align.rl.rollout import measure_episodes


def test_old_metrics_of_another_policy_are_refused_on_the_first_pass() -> None:
    found = models()
    rows = measured(found)
    before = weights(found)
    for _, row in rows:
        row.columns["old_logps"][:] -= 0.05
    with pytest.raises(UserError, match="not the one that its log-probabilities were taken from"):
        run(found, rows)
    assert all(torch.equal(values, before[name]) for name, values in weights(found).items())


def test_checks_allow_rounding_and_no_more() -> None:
    fine = {"ratio_deviation": 5e-5, "approx_kl": 1e-9, "clip_fraction": 0.0}
    ppo_checks.check_first_pass(fine, "fp32")
    for name, value in (("ratio_deviation", 1e-3), ("approx_kl", 1e-3), ("clip_fraction", 1e-3)):
        with pytest.raises(UserError, match=name):
            ppo_checks.check_first_pass({**fine, name: value}, "fp32")
        ppo_checks.check_first_pass({**fine, name: value}, "bf16")
    with pytest.raises(UserError, match="approx_kl"):
        ppo_checks.check_first_pass({**fine, "approx_kl": float("nan")}, "bf16")
    # Measured with two batchings of one model on a CPU whose bf16 products round by the shape of the batch
    rounding = {"ratio_deviation": 0.037, "approx_kl": 0.0018, "clip_fraction": 0.028}
    ppo_checks.check_first_pass(rounding, "bf16")
    for name, value in (("ratio_deviation", 0.1), ("approx_kl", 0.03), ("clip_fraction", 0.1)):
        with pytest.raises(UserError, match=name):
            ppo_checks.check_first_pass({**rounding, name: value}, "bf16")


def test_another_reference_is_refused_before_training() -> None:
    found = models()
    episodes = answers(LENGTHS)
    other = PpoModels(found.module, models(seed=9).reference, True, True, found.stop_ids, 0)
    measure_episodes(rollout_tools(other), trees_of(ASKED, episodes))
    with pytest.raises(UserError, match="reference is not the model that training starts from"):
        ppo_checks.check_reference(episodes, "fp32")


def test_a_difference_between_sampling_and_pass_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    episodes = answers([[3]])
    episodes[0].logps = np.zeros(3, np.float32)
    check = ppo_checks.SamplingCheck("fp32")
    with caplog.at_level("WARNING", logger="hf_align"):
        check(episodes)
        assert not caplog.records
        episodes[0].sampled_logps = np.full(3, 0.01, np.float32)
        check(episodes)
        check(episodes)
    assert len(caplog.records) == 1 and "0.01 nats per token" in caplog.text
