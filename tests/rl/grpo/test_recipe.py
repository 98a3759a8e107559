"""The recipe of GRPO and its kin: TRL's defaults, other names of keys, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.config.loader import load_recipe
from hf_align.errors import UserError
from hf_align.rl.grpo.recipe import GrpoConfig, GrpoOptionsConfig, parse_grpo
from hf_align.rl.recipe import PpoConfig

REQUIRED = {"model_name_or_path": "m", "datasets": "x.jsonl", "reward_functions": "a.py:f"}


def parse(**given: Any) -> GrpoConfig:
    arguments = []
    for key, value in {**REQUIRED, **given}.items():
        arguments += [f"--{key}", str(value)]
    return parse_grpo(arguments)


def test_defaults_are_those_of_trl() -> None:
    from trl import GRPOConfig, RLOOConfig

    theirs = {field: spec.default for field, spec in GRPOConfig.__dataclass_fields__.items()}
    ours = parse()
    for key in (
        "num_generations",
        "max_completion_length",
        "beta",
        "epsilon",
        "epsilon_high",
        "num_iterations",
        "loss_type",
        "scale_rewards",
        "importance_sampling_level",
        "mask_truncated_completions",
        "use_bias_correction_kl",
        "temperature",
        "top_p",
    ):
        assert getattr(ours.grpo, key) == theirs[key], key
    assert ours.training.learning_rate == theirs["learning_rate"]
    rloo = RLOOConfig.__dataclass_fields__
    found = parse(algorithm="rloo").grpo
    for key in ("num_generations", "beta", "epsilon", "normalize_advantages"):
        assert getattr(found, key) == rloo[key].default, key


def test_what_null_stands_for_follows_the_algorithm() -> None:
    found = {
        name: GrpoOptionsConfig(algorithm=name) for name in ("grpo", "rloo", "reinforce", "reinforce_pp")
    }
    assert [one.num_generations for one in found.values()] == [8, 2, 1, 1]
    assert [one.kl_coef for one in found.values()] == [0.0, 0.05, 0.05, 0.05]
    assert [one.kl_estimator for one in found.values()] == ["k3", "k1", "k1", "k1"]


@pytest.mark.parametrize("recipe", [GrpoConfig, PpoConfig])
def test_older_and_other_names_are_read_and_one_is_written(recipe: type[Any], tmp_path: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model_name_or_path: m\ndatasets: x.jsonl\nreward_funcs: a.py:f\n"
        "samples_per_prompt: 3\nmax_rows_at_once: 5\nmax_new_tokens: 7\n"
    )
    config = load_recipe(recipe, path)
    options = config.options
    assert (options.num_generations, options.generation_batch_size, options.max_new_tokens) == (3, 5, 7)
    assert config.rewards.reward_functions == ["a.py:f"]
    flat = config.to_flat()
    assert not {"samples_per_prompt", "max_rows_at_once", "reward_funcs"} & flat.keys()
    old = {**{key: value for key, value in flat.items() if key != "num_generations"}, "samples_per_prompt": 3}
    assert recipe.from_flat(old).to_flat() == flat
    assert load_recipe(recipe, path, {"num_generations": 4}).options.num_generations == 4
    path.write_text(path.read_text() + "num_generations: 2\n")
    with pytest.raises(UserError, match=r"yaml:7: num_generations: this is num_generations, .*yaml:4: samp"):
        load_recipe(recipe, path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_generations": 1}, "num_generations: found 1; algorithm: grpo holds an answer against others"),
        ({"algorithm": "reinforce", "baseline": "group"}, "baseline: group holds an answer against others"),
        ({"algorithm": "reinforce_pp", "dynamic_sampling": "true"}, "dynamic_sampling: true holds an answer"),
        ({"algorithm": "reinforce", "num_iterations": 2}, "REINFORCE has no ratio"),
        ({"algorithm": "reinforce", "num_mini_batches": 2}, "num_mini_batches: REINFORCE has no ratio"),
        (
            {"algorithm": "rloo", "scale_rewards": "none"},
            "scale_rewards: this has no effect, because algorithm",
        ),
        ({"algorithm": "rloo", "loss_type": "grpo"}, "loss_type: this has no effect"),
        ({"baseline": "batch"}, "baseline: this has no effect, because algorithm is grpo"),
        ({"loss_type": "cispo"}, "epsilon_high"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high: for cispo this is the largest weight"),
        ({"loss_type": "cispo", "algorithm": "reinforce_pp"}, "loss_type: cispo is a loss of grpo"),
        ({"max_resamples": 2}, "max_resamples: this has no effect, because dynamic_sampling is false"),
        ({"soft_punish_cache": 9, "max_completion_length": 8}, "soft_punish_cache: found 9 tokens below a"),
        ({"num_mini_batches": 8, "rollout_batch_size": 4}, "4 prompts cannot be split into 8 parts"),
        ({"max_steps": 3}, "max_steps: this has no effect in GRPO: the length of a run is num_rollouts"),
        ({"save_strategy": "epoch"}, "save_strategy: GRPO has no epochs"),
        ({"vf_coef": 0.1}, "vf_coef: unknown option"),
        ({"precision": "fp16"}, "precision: fp16 is too coarse"),
    ],
)
def test_what_is_refused_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as problem:
        parse(**given)
    assert message in str(problem.value), problem.value
