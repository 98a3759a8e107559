"""The recipe of reward models: its own keys, its defaults, and the combinations that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_align.config import load_config, load_recipe
from hf_align.config.fields import specs_of
from hf_align.errors import UserError
from hf_align.reward_model.recipe import RewardConfig, RewardLossConfig, parse_reward

START = "model_name_or_path: m\ndatasets: pairs.jsonl\n"


def parsed(tmp_path: Path, text: str = "", **overrides: Any) -> RewardConfig:
    path = tmp_path / "r.yaml"
    path.write_text(START + text, encoding="utf-8")
    return load_recipe(RewardConfig, path, overrides)


def test_the_groups_share_no_key_and_every_option_has_help() -> None:
    names = [name for group in RewardConfig.groups().values() for name in specs_of(group)]
    assert len(names) == len(set(names))
    assert all(len(spec.option.help) > 5 for spec in RewardConfig.keys().values())


def test_defaults(tmp_path: Path) -> None:
    config = parsed(tmp_path)
    assert config.reward == RewardLossConfig()
    assert config.reward.center_rewards_coefficient == 0
    assert config.training.output_dir == "runs/reward"
    assert config.training.learning_rate == 1e-5
    assert config.comparison.share_prefix and config.comparison.disable_dropout


def test_the_flat_form_comes_back(tmp_path: Path) -> None:
    flat = parsed(tmp_path, "adapter: lora\nsave_merged: false\nhead_init: zero\n").to_flat()
    assert flat["save_merged"] is False and flat["head_init"] == "zero"
    assert RewardConfig.from_flat(flat).to_flat() == flat


@pytest.mark.parametrize(
    ("lines", "merges"),
    [
        ("", False),
        ("adapter: lora\n", True),
        ("adapter: lora\nsave_merged: false\n", False),
        ("adapter: lora\nsave_merged: true\n", True),
        ("adapter: lora\nload_in_4bit: true\n", False),
        ("adapter: lora\nload_in_8bit: true\nsave_merged: false\n", False),
    ],
)
def test_what_is_merged(tmp_path: Path, lines: str, merges: bool) -> None:
    assert parsed(tmp_path, lines).merges is merges


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("center_rewards_coefficient: -0.1\n", "center_rewards_coefficient: found the number -0.1"),
        ("head_init: zeros\n", "head_init: found the text 'zeros', expected one of: normal, zero"),
        ("save_merged: false\n", "save_merged: this has no effect, because adapter is none by default"),
        ("train_on: all\n", ":3: train_on: found all; what counts here are the compared answers"),
        ("neftune_noise_alpha: 5\n", ":3: neftune_noise_alpha: noise on the embeddings would differ"),
        ("load_in_4bit: true\n", ":3: load_in_4bit: quantised weights cannot be trained"),
        (
            "adapter: lora\nload_in_4bit: true\nsave_merged: true\n",
            ":5: save_merged: an adapter was trained to correct the rounding",
        ),
        ("eval_strategy: epoch\n", "there is nothing to evaluate on"),
        ("centering: 0.1\n", "unknown key. Here: write center_rewards_coefficient."),
        ("num_labels: 1\n", "unknown key. Here: a reward model has one score"),
        ("center_reward_coefficient: 0.1\n", "Did you mean 'center_rewards_coefficient'?"),
        ("num_samples: 3\n", "unknown key"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        parsed(tmp_path, lines)
    assert message in str(refused.value)


def test_the_command_line_takes_precedence(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + "head_init: zero\n", encoding="utf-8")
    config = parse_reward(["--config", str(path), "--head_init", "normal"])
    assert config.reward.head_init == "normal"
    assert config.overrides == {"head_init": "normal"}


def test_help_names_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_config(RewardConfig, ["--help"], command="reward", description="Train a reward model.")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "Reward:" in text and "--center_rewards_coefficient NUMBER" in text and "Comparisons:" in text
    assert max(map(len, text.splitlines())) <= 100
