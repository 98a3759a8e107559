"""The recipe of PPO: its defaults, its length, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.losses import AdaptiveKLController
from hf_align.rl.recipe import PpoOptionsConfig, parse_ppo

REQUIRED = {"model_name_or_path": "m", "datasets": "x.jsonl", "reward_functions": "a.py:f"}


def parse(**given: Any) -> Any:
    arguments = []
    for key, value in {**REQUIRED, **given}.items():
        arguments += [f"--{key}", str(value)]
    return parse_ppo(arguments)


def test_defaults_are_those_of_the_sources() -> None:
    config = parse()
    ppo, training = config.ppo, config.training
    assert (ppo.num_ppo_epochs, ppo.clip_range, ppo.clip_range_value, ppo.vf_coef) == (4, 0.2, 0.2, 0.1)
    assert (ppo.gamma, ppo.lam, ppo.kl_coef, ppo.entropy_coef) == (1.0, 0.95, 0.05, 0.0)
    assert (ppo.kl_estimator, ppo.kl_horizon, ppo.whiten_advantages) == ("k1", 10000.0, True)
    assert (training.adam_epsilon, training.lr_scheduler_type, training.max_grad_norm) == (1e-5, "linear", 1)
    assert training.output_dir == "runs/ppo"


@pytest.mark.parametrize(
    ("given", "rollouts"),
    [({}, 3), ({"num_rollouts": 7}, 7), ({"total_episodes": 100}, 2), ({"total_episodes": 129}, 3)],
)
def test_the_length_of_a_run(given: dict[str, int], rollouts: int) -> None:
    options = PpoOptionsConfig(rollout_batch_size=16, num_generations=4, **given)
    assert options.rollouts(prompts=33) == rollouts


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_rollouts": 2, "total_episodes": 9}, "num_rollouts: both say how long the run is"),
        ({"num_mini_batches": 8, "rollout_batch_size": 4}, "4 prompts cannot be split into 8 parts"),
        ({"max_steps": 3}, "max_steps: this has no effect in PPO: the length of a run is num_rollouts"),
        ({"num_train_epochs": 2}, "num_train_epochs: this has no effect"),
        ({"per_device_train_batch_size": 2}, "rollout_batch_size / num_mini_batches"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps: this has no effect"),
        ({"neftune_noise_alpha": 5}, "neftune_noise_alpha: this has no effect"),
        ({"torch_compile": "true"}, "torch_compile: this has no effect"),
        ({"logging_steps": 2}, "every rollout is logged"),
        ({"save_strategy": "epoch"}, "save_strategy: PPO has no epochs"),
        ({"target_kl": 3}, "target_kl: this has no effect, because adaptive_kl is false"),
        ({"kl_horizon": 3}, "kl_horizon: this has no effect"),
        ({"value_model_name_or_path": "v"}, "because value_model is policy"),
        ({"value_model": "own"}, "expected one of: policy, separate"),
        ({"kl_estimator": "k2"}, "expected one of: k1, k3"),
        ({"temperature": 0}, "temperature: found the number 0, expected a number above 0"),
        ({"top_p": 1.5}, "above 0 and at most 1"),
        ({"lam": 1.1}, "of at least 0 and at most 1"),
        ({"clip_range": 0}, "clip_range: found the number 0"),
        ({"streaming": "true", "max_steps": 5}, "max_steps: this has no effect"),
        ({"adapter": "lora", "lora_dropout": 0.1}, "lora_dropout: with dropout the policy would differ"),
        ({"train_on": "all"}, "train_on: found all; what is trained are the sampled answers"),
        ({"precision": "fp16"}, "precision: fp16 is too coarse"),
        ({"load_in_4bit": "true"}, "quantised weights cannot be trained"),
        ({"eval_strategy": "steps", "eval_steps": 5}, "there is nothing to evaluate on"),
        ({"clip_rnage": 0.1}, "Did you mean 'clip_range'"),
    ],
)
def test_what_is_refused_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        parse(**given)
    assert message in str(problem.value), problem.value


def test_streams_are_refused_by_name() -> None:
    from hf_align.rl.recipe import PpoConfig

    with pytest.raises(UserError, match="streaming: "):
        PpoConfig.from_flat({**REQUIRED, "streaming": True})


def test_a_reward_is_required() -> None:
    with pytest.raises(UserError, match="there is no reward"):
        parse_ppo(["--model_name_or_path", "m", "--datasets", "x.jsonl"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kl_coef": 0}, "adaptive_kl: a weight of 0 stays 0"),
        # 64 prompts with 2 answers: an error of -0.2 for 128 answers takes away all of the weight at 25.6.
        ({"kl_horizon": 25, "samples_per_prompt": 2}, "kl_horizon: found 25; with 128 answers"),
    ],
)
def test_a_weight_that_could_not_be_steered_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        parse(adaptive_kl="true", **given)
    assert message in str(problem.value), problem.value


def test_the_shortest_horizon_keeps_the_weight_above_zero() -> None:
    options = parse(adaptive_kl="true", kl_horizon=13).ppo
    controller = AdaptiveKLController(options.kl_coef, target=options.target_kl, horizon=options.kl_horizon)
    controller.update(0.0, options.episodes_per_rollout)
    assert controller.coefficient == pytest.approx(0.05 * (1 - 0.2 * 64 / 13)) and controller.coefficient > 0
