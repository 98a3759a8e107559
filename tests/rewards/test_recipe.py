"""The keys of rewards: at least one, named well, weighted one each."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_align.best_of_n.recipe import BestOfNConfig, parse_best_of_n
from hf_align.config import KeyProblem, load_recipe
from hf_align.errors import UserError
from hf_align.rewards.recipe import RewardsConfig, split_function


def test_one_name_stands_for_a_list_of_one():
    config = RewardsConfig(reward_functions="a.py:score", reward_weights=2)
    assert config.reward_functions == ["a.py:score"]
    assert config.weights == [2.0]


def test_weights_are_1_each_unless_given():
    config = RewardsConfig(reward_model=["runs/a", "runs/b"], reward_functions=["f.py:g"])
    assert config.weights == [1.0, 1.0, 1.0]
    assert RewardsConfig(reward_model="m", reward_functions="f.py:g", reward_weights=[1, -2]).weights == [
        1,
        -2,
    ]


@pytest.mark.parametrize(
    ("values", "keys", "words"),
    [
        ({}, ("reward_functions", "reward_model"), "there is no reward"),
        ({"reward_functions": "score"}, ("reward_functions",), "rewards.py:score"),
        ({"reward_functions": "a.txt:score"}, ("reward_functions",), "'a.txt:score'"),
        ({"reward_functions": "a.py:two words"}, ("reward_functions",), "name of a function"),
        ({"reward_functions": "a.py:"}, ("reward_functions",), "name of a function"),
        ({"reward_model": [" "]}, ("reward_model",), "empty text"),
        ({"reward_model": ["a", "a"]}, ("reward_model",), "'a' is given twice"),
        (
            {"reward_model": "a", "reward_weights": [1, 2]},
            ("reward_weights", "reward_model"),
            "found 2 for 1 rewards",
        ),
        ({"reward_model": "a", "reward_weights": [0]}, ("reward_weights",), "leaves a reward out"),
        ({"reward_model": "a", "reward_weights": []}, ("reward_weights",), "not empty"),
        ({"reward_model": "a", "missing_eos_penalty": -1}, ("missing_eos_penalty",), "at least 0"),
        (
            {"reward_functions": "a.py:f", "center_reward_models": True},
            ("center_reward_models", "reward_model"),
            "no effect",
        ),
        (
            {"reward_functions": "a.py:f", "reward_model_input": "answer"},
            ("reward_model_input", "reward_model"),
            "no effect",
        ),
        ({"reward_model": "a", "reward_model_input": "anser"}, ("reward_model_input",), "'answer'"),
    ],
)
def test_wrong_values(values, keys, words):
    with pytest.raises(KeyProblem) as problem:
        RewardsConfig(**values)
    assert problem.value.keys == keys
    assert words in str(problem.value)


def test_a_function_is_split_at_the_last_colon():
    assert split_function("C:/my:files/a.py:score") == ("C:/my:files/a.py", "score")


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    config = RewardsConfig(reward_model="~/runs/a", reward_functions="~/f.py:g")
    assert (config.reward_model, config.reward_functions) == (["/home/ada/runs/a"], ["/home/ada/f.py:g"])


def _recipe(folder: Path, text: str = "") -> str:
    path = folder / "r.yaml"
    path.write_text(f"model_name_or_path: m\ndatasets: d.jsonl\n{text}", encoding="utf-8")
    return str(path)


def test_the_recipe_of_best_of_n(tmp_path):
    path = _recipe(tmp_path, "reward_functions: f.py:g\nnum_generations: 8\n")
    config = parse_best_of_n(["--config", path, "--keep_best", "2"])
    assert (config.best_of_n.num_generations, config.best_of_n.keep_best) == (8, 2)
    assert BestOfNConfig.from_flat(config.to_flat()).to_flat() == config.to_flat()


def test_training_has_keys_of_its_own(tmp_path):
    text = "reward_functions: f.py:g\ntrain: true\nrounds: 3\nadapter: lora\nlora_r: 4\neval_split_size: 8\n"
    path = _recipe(tmp_path, text)
    config = parse_best_of_n(["--config", path])
    assert (config.best_of_n.rounds, config.adapter.lora_r, config.best_of_n.above_mean) == (3, 4, True)
    assert config.to_flat()["learning_rate"] == config.training.learning_rate
    assert BestOfNConfig.from_flat(config.to_flat()).to_flat() == config.to_flat()
    # On the command line the same recipe samples only, and says nothing about training in its record.
    without = parse_best_of_n(["--config", path, "--train", "false"])
    assert not without.best_of_n.above_mean
    assert {"train", "output_dir", "seed", "use_cpu"} <= set(without.to_flat())
    assert not {"learning_rate", "adapter", "lora_r", "rounds", "eval_split_size"} & set(without.to_flat())


def test_a_recipe_without_a_reward_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no reward; give reward_functions"):
        load_recipe(BestOfNConfig, _recipe(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"num_generations": 1}, "of at least 2"),
        ({"temperature": 0.0}, "above 0"),
        ({"keep_best": 17}, "found 17 answers to keep of 16"),
        ({"eval_datasets": "e.jsonl"}, "eval_datasets.*no effect"),
        ({"eval_split_size": 0.1}, "eval_split_size.*no effect"),
        ({"streaming": True}, "streaming.*no effect"),
        ({"mixture_exponent": 0.5}, "mixture_exponent.*no effect"),
        ({"datasets": [{"path": "d.jsonl", "weight": 2.0}]}, "datasets.*a weight.*no effect"),
        ({"rounds": 2}, "rounds.*no effect, because train is false"),
        ({"learning_rate": 1e-4}, "learning_rate.*no effect, because train is false"),
        ({"adapter": "lora"}, "adapter.*no effect, because train is false"),
        ({"train": True, "rounds": 0}, "rounds.*of at least 1"),
        ({"train": True, "eval_strategy": "epoch"}, "held-out prompts are answered after every round"),
        ({"train": True, "resume_from_checkpoint": "auto"}, r"goes on by itself \(resume\)"),
        ({"train": True, "lora_r": 4}, "lora_r.*no effect, because adapter is none"),
        ({"train": True, "load_in_4bit": True}, "quantised weights cannot be trained"),
        ({"train": True, "train_on": "all"}, "what is trained are the sampled answers"),
        ({"num_return_sequences": 4}, "num_generations"),
        ({"num_generation": 4}, "Did you mean 'num_generations'"),
    ],
)
def test_wrong_recipes(tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        load_recipe(BestOfNConfig, _recipe(tmp_path, "reward_functions: f.py:g\n"), overrides)
