"""Updates: steps that do not depend on how they are cut, their order, the KL stop, and what is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.ppo_parts import models, update_tools
from helpers.ppo_updates import _first, measured, run, weights

from hf_align.errors import UserError
from hf_align.rl.update import update


@pytest.mark.parametrize("max_tokens", [1, 25, 60])
def test_the_token_budget_does_not_change_what_is_learned(max_tokens: int) -> None:
    whole, cut = models(), models()
    settings = {"num_ppo_epochs": 2, "num_mini_batches": 2, "entropy_coef": 0.01}
    start = weights(whole)
    first = run(whole, measured(whole), **settings)
    second = run(cut, measured(cut), max_tokens=max_tokens, **settings)
    ours, theirs = weights(cut), weights(whole)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
    assert any(not torch.equal(theirs[name], start[name]) for name in theirs)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert first["update_steps"] == 4


def test_padded_batches_learn_the_same() -> None:
    packed, padded = models(), models(packed=False)
    run(packed, measured(packed), num_ppo_epochs=2)
    run(padded, measured(padded), num_ppo_epochs=2)
    for name, values in weights(packed).items():
        torch.testing.assert_close(weights(padded)[name], values, rtol=1e-3, atol=1e-5, msg=name)


def test_a_step_is_the_mean_over_its_tokens() -> None:
    """One epoch of one mini-batch by plain SGD: the loss is the mean over tokens by hand."""
    found = models()
    rows = measured(found)
    means = run(found, rows, num_ppo_epochs=1)
    advantages = np.concatenate([row.columns["advantages"] for _, row in rows])
    differences = np.concatenate([row.columns["old_values"] - row.columns["returns"] for _, row in rows])
    assert means["policy_loss"] == pytest.approx(-advantages.mean(), abs=1e-5)
    assert means["value_loss"] == pytest.approx((differences**2).mean() / 2, rel=1e-4)
    expected = means["policy_loss"] + 0.1 * means["value_loss"]
    assert means["total_loss"] == pytest.approx(expected, rel=1e-4)
    assert means["ratio"] == pytest.approx(1, abs=1e-5)
    assert means["grad_norm"] > 0


def test_mini_batches_take_every_prompt_once_an_epoch_in_an_order_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hf_align.rl import update as ppo_update

    found = models()
    rows = measured(found)
    sources = {id(row): number for number, row in rows}
    seen: list[list[int]] = []
    inner = ppo_update.compute_gradients

    def watched(module: Any, some: Any, *others: Any, **options: Any) -> Any:
        seen.append(sorted(sources[id(row)] for row in some))
        return inner(module, some, *others, **options)

    monkeypatch.setattr(ppo_update, "compute_gradients", watched)
    run(found, rows, num_ppo_epochs=6, num_mini_batches=2)
    epochs = [sorted(seen[i] + seen[i + 1]) for i in range(0, len(seen), 2)]
    assert epochs == [[0, 1, 2, 3]] * 6
    assert len({tuple(part) for part in seen[::2]}) > 1
    first = list(seen)
    seen.clear()
    # The same policy as before it was trained, and so the same old log-probabilities.
    run(models(), rows, num_ppo_epochs=6, num_mini_batches=2, seed=1)
    assert seen != first


def test_the_kl_stop_ends_an_update_before_the_step_that_would_go_further() -> None:
    found = models()
    rows = measured(found)
    settings = {"num_ppo_epochs": 8, "learning_rate": 0.5}
    free = run(models(), rows, **settings)
    assert free["update_steps"] == 8 and free["stopped_by_kl"] == 0 and free["approx_kl"] > 1e-3
    tools = update_tools(found, kl_stop=1e-3, **settings)
    steps = []
    tools.scheduler.step = lambda: steps.append(1)
    means = update(tools, rows, prompts=4, seed=(0,), check_first=_first, check_step=lambda metrics: None)
    assert 1 <= means["update_steps"] < 8 and means["stopped_by_kl"] == 1
    assert means["approx_kl"] <= 1e-3
    assert len(steps) == 8, "the learning rate goes on as planned"
    assert all(p.grad is None for p in found.module.parameters()), "the refused gradient is gone"


def test_a_loss_that_is_no_number_is_refused_before_it_is_learned_from() -> None:
    found = models()
    rows = measured(found)
    rows[1][1].columns["advantages"][0] = np.inf
    before = weights(found)
    with pytest.raises(UserError, match=r"rollout 1: .*loss.*learning_rate"):
        run(found, rows)
    assert all(torch.equal(values, before[name]) for name, values in weights(found).items())
