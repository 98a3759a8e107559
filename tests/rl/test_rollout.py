"""Rollouts: what is sampled, and what is measured of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.ppo_parts import STOP, answers, models, prompts, rollout_tools

from hf_align.rl.advantages import reference_difference, sampling_difference
from hf_align.rl.checks import check_reference
from hf_align.rl.episodes import padded, trees_of, update_rows
from hf_align.rl.rollout import measure_episodes, sample_episodes

ASKED = prompts([7, 4, 9])


def test_samples_depend_on_their_seed_alone() -> None:
    tools = rollout_tools(models())
    first = sample_episodes(tools, ASKED, samples=3, seed=(1, 0, 5, 0))
    torch.rand(7)
    again = sample_episodes(tools, ASKED, samples=3, seed=(1, 0, 5, 0))
    other = sample_episodes(tools, ASKED, samples=3, seed=(1, 0, 6, 0))
    assert [one.tokens.tolist() for one in first] == [one.tokens.tolist() for one in again]
    assert [one.tokens.tolist() for one in first] != [one.tokens.tolist() for one in other]
    assert [one.prompt for one in first] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    state = torch.get_rng_state()
    sample_episodes(tools, ASKED, samples=1, seed=(3,))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not drawn from"


def test_samples_of_a_prompt_do_not_depend_on_the_prompts_beside_it() -> None:
    tools = rollout_tools(models(), generation_batch_size=4)
    whole = sample_episodes(tools, ASKED, samples=2, seed=(1, 0, 5))
    # As two processes share the prompts of a rollout.
    parts = [sample_episodes(tools, ASKED[rank::2], samples=2, seed=(1, 0, 5)) for rank in range(2)]
    together = sorted((one for part in parts for one in part), key=lambda one: one.prompt)
    assert [one.tokens.tolist() for one in together] == [one.tokens.tolist() for one in whole]


def test_answers_end_with_a_stop_token_or_at_the_limit() -> None:
    tools = rollout_tools(models(), max_new_tokens=40)
    found = sample_episodes(tools, ASKED, samples=20, seed=(2,))
    assert {one.stopped for one in found} == {True, False}
    for one in found:
        stops = np.flatnonzero(one.tokens == STOP)
        assert stops.tolist() == ([len(one.tokens) - 1] if one.stopped else [])
        assert one.stopped or len(one.tokens) == 40
        assert one.text.split() == [str(i) for i in one.tokens if i != STOP]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("layout", ["shared", "packed", "padded"])
def test_what_was_taken_while_sampling_is_what_a_pass_gives(layout: str, temperature: float) -> None:
    found = models(packed=layout != "padded", shared=layout == "shared")
    tools = rollout_tools(found, temperature=temperature, top_k=20, max_tokens=30)
    episodes = sample_episodes(tools, ASKED, samples=2, seed=(0,))
    measure_episodes(tools, trees_of(ASKED, episodes))
    mean, largest = sampling_difference(episodes)
    assert largest < 1e-4, (mean, largest)
    assert reference_difference(episodes) == (0.0, 0.0), "policy and reference are the same"
    check_reference(episodes, "fp32")
    for one in episodes:
        ids = [*ASKED[one.prompt][1].ids, *one.tokens.tolist()]
        with torch.no_grad():
            logits = found.reference(torch.tensor([ids])).logits[0, -len(one.tokens) - 1 : -1]
        scaled = torch.log_softmax(logits / temperature, dim=-1)
        expected = scaled[torch.arange(len(one.tokens)), torch.from_numpy(one.tokens).long()]
        torch.testing.assert_close(torch.from_numpy(one.logps), expected, rtol=1e-4, atol=1e-4)
        entropy = torch.distributions.Categorical(logits=scaled).entropy()
        torch.testing.assert_close(torch.from_numpy(one.entropies), entropy, rtol=1e-4, atol=1e-4)


def test_the_token_budget_changes_no_metric() -> None:
    found = models()
    whole, pieces = answers([[3, 1], [4, 4], [2, 6]]), answers([[3, 1], [4, 4], [2, 6]])
    measure_episodes(rollout_tools(found), trees_of(ASKED, whole))
    measure_episodes(rollout_tools(found, max_tokens=1), trees_of(ASKED, pieces))
    for one, other in zip(whole, pieces, strict=True):
        for name in ("logps", "entropies", "reference_logps", "values"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-5)


def test_rows_of_an_update_carry_the_metrics_of_their_own_answers() -> None:
    episodes = answers([[3, 1], [4], [2, 2]])
    for one in episodes:
        one.logps = np.full(len(one.tokens), one.reward, np.float32)
        one.values = np.full(len(one.tokens), -one.reward, np.float32)
    mine = [ASKED[0], ASKED[2]]  # another process has the prompt between
    trees = trees_of(mine, [one for one in episodes if one.prompt != 1])
    table = torch.arange(20).reshape(5, 4).float()
    columns = {
        "advantages": table,
        "returns": -table,
        "old_logps": padded([one.logps for one in episodes]),
        "old_values": padded([one.values for one in episodes]),
    }
    rows = dict(update_rows(trees, episodes, columns))
    assert sorted(rows) == [0, 2]
    assert rows[0].columns["advantages"].tolist() == [0, 1, 2, 4]
    assert rows[2].columns["advantages"].tolist() == [12, 13, 16, 17]
    assert rows[2].columns["returns"].tolist() == [-12, -13, -16, -17]
    rewards = [one.reward for one in episodes]
    assert rows[2].columns["old_logps"].tolist() == pytest.approx([rewards[3]] * 2 + [rewards[4]] * 2)
    assert rows[0].columns["old_values"].tolist() == pytest.approx([-rewards[0]] * 3 + [-rewards[1]])
