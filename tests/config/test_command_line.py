"""Options on the command line: how they are written, that they take precedence, and their mistakes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from hf_align.config import DatasetConfig
from hf_align.config.fields import choices, members, specs_of
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig, parse_sft

RECIPE = """\
model_name_or_path: m
datasets: a.jsonl
adapter: lora
lora_r: 4
max_steps: 7
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--max_steps", "9"], "max_steps", 9),
        (["--max_steps=9"], "max_steps", 9),
        (["--max-steps", "9"], "max_steps", 9),
        (["--max_steps", "-1"], "max_steps", -1),
        (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
        (["--use_cpu"], "use_cpu", True),
        (["--use_cpu", "--max_steps", "1"], "use_cpu", True),
        (["--packing", "false"], "packing", False),
        (["--eval_strategy", "no"], "eval_strategy", "no"),
        (["--save_total_limit", "null"], "save_total_limit", None),
        (["--model_revision", "null"], "model_revision", None),
        (["--run_name", "2024-01-31"], "run_name", "2024-01-31"),
        (["--run_name", "12"], "run_name", "12"),
        (["--run_name=--x"], "run_name", "--x"),
        (["--run_name", "a=b"], "run_name", "a=b"),
        (["--system_prompt", "Answer: {briefly} # please"], "system_prompt", "Answer: {briefly} # please"),
        (["--output_dir", "null"], "output_dir", "null"),
        (["--report_to", "wandb"], "report_to", ["wandb"]),
        (["--report_to", "[wandb, tensorboard]"], "report_to", ["wandb", "tensorboard"]),
        (["--modules_to_save", "null"], "modules_to_save", None),
        (["--modules_to_save", "lm_head"], "modules_to_save", ["lm_head"]),
        (["--lora_target_modules", "[q_proj, v_proj]"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--lora_target_modules", "[qv]_proj"], "lora_target_modules", "[qv]_proj"),
        (["--lr_scheduler_kwargs", "{num_cycles: 1e0}"], "lr_scheduler_kwargs", {"num_cycles": 1.0}),
        (["--eval_datasets", "[]"], "eval_datasets", []),
    ],
)
def test_options_take_precedence(recipe, arguments, key, value):
    config = parse_sft(["--config", recipe, *arguments])
    assert config.to_flat()[key] == value
    assert config.overrides[key] == value
    assert type(config.overrides[key]) is type(value)
    assert config.recipe_path == recipe
    if key != "max_steps":
        assert config.to_flat()["max_steps"] == (1 if "1" in arguments else 7)


def test_data_sets_on_the_command_line(recipe):
    config = parse_sft([f"--config={recipe}", "--datasets", "[{path: b.jsonl, weight: 2}, c]"])
    assert config.data.datasets == [DatasetConfig("b.jsonl", weight=2.0), DatasetConfig("c")]
    assert json.loads(json.dumps(config.overrides))["datasets"][1]["path"] == "c"
    assert parse_sft(["--config", recipe, "--datasets", "b.jsonl"]).data.datasets == [
        DatasetConfig("b.jsonl")
    ]


def test_no_recipe_is_needed():
    config = parse_sft(["--model_name_or_path", "m", "--datasets", "a"])
    assert config.recipe_path == ""
    assert set(config.overrides) == {"model_name_or_path", "datasets"}


def test_the_process_arguments_are_the_default(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hf-align", "--config", recipe, "--max_steps", "3"])
    assert parse_sft().training.max_steps == 3


def test_an_option_may_switch_off_what_the_recipe_describes(recipe):
    config = parse_sft(["--config", recipe, "--adapter", "none"])
    assert config.adapter.adapter == "none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lora_rnk", "3"], "--lora_rnk: unknown option. Did you mean 'lora_"),
        (["--tf32"], "--tf32: unknown option. Here: precision: fp32 uses full float32."),
        (["--max_steps", "3", "--max_steps=4"], "--max_steps: this option is given twice."),
        (["--config", "x.yaml"], "--config: this option is given twice."),
        (["--max_steps"], "--max_steps: a value is missing, expected a whole number"),
        (["--max_steps", "--use_cpu"], "--max_steps: a value is missing"),
        (["--max_steps="], "--max_steps: found an empty value, expected a whole number"),
        (["--max_steps", "three"], "--max_steps: found the text 'three', expected a whole number"),
        (["--max_steps", "0"], "--max_steps: found 0, expected at least 1"),
        (["--use_cpu", "1"], "--use_cpu: found the number 1, expected true or false."),
        (["--use_cpu", "'true'"], "--use_cpu: found the text 'true', expected true or false."),
        (["--optim", "adam"], "--optim: found the text 'adam', expected one of"),
        (["--report_to", "wandbb"], "Did you mean 'wandb'?"),
        (["--datasets", "[{pth: a}]"], "--datasets entry 1: pth: unknown key of a data set"),
        (["--datasets", "[{path: a"], "--datasets: this is not valid YAML"),
        (["--datasets", ""], "--datasets: found an empty value"),
        (["--run_name", ""], "--run_name: found the text ''"),
        (["--run_name", "\udcff"], "--run_name: found the text '\\udcff' (half of a character"),
        (["--learning_rate", "\udcff"], "--learning_rate: this is not valid YAML"),
        (["other.yaml"], "'other.yaml': expected an option, --key value. Did you mean --config other.yaml?"),
        (["-x"], "'-x': expected an option"),
        (["--"], "'--': expected an option"),
        (["--load_in_4bit", "--adapter", "none"], "--load_in_4bit: quantised weights cannot be trained"),
        (["--eval_strategy", "steps"], "--eval_strategy: 'steps' needs a number of eval_steps"),
        (["--use_dora", "--adapter", "none"], "--use_dora: this has no effect"),
        (["--eval_steps", "4"], "--eval_steps: this has no effect, because eval_strategy is no by default"),
    ],
)
def test_mistakes_name_the_option(recipe, arguments, message):
    with pytest.raises(UserError) as caught:
        parse_sft(["--config", recipe, *arguments])
    assert message in str(caught.value)


def test_a_combination_names_both_places(recipe):
    with pytest.raises(UserError) as caught:
        parse_sft(["--config", recipe, "--adapter", "none", "--load_in_8bit"])
    assert str(caught.value).endswith("(See --adapter.)")
    with pytest.raises(UserError) as caught:
        parse_sft(["--config", recipe, "--streaming", "--max_steps", "-1"])
    assert "--streaming" in str(caught.value) and "(See --max_steps.)" in str(caught.value)


def test_missing_keys():
    with pytest.raises(UserError, match="--model_name_or_path is missing; give it, or a recipe"):
        parse_sft([])
    with pytest.raises(UserError, match="--config: the name of a recipe file is missing"):
        parse_sft(["--config"])


def test_help_lists_every_option_within_100_columns(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_sft(["--config", "nowhere.yaml", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    flowing = " ".join(text.split())
    for group in SftConfig.groups().values():
        assert f"\n{group.title}:\n" in text
        for spec in specs_of(group).values():
            assert re.search(rf"^  --{spec.name} ", text, re.M), spec.name
            assert spec.option.help in flowing
            for member in members(spec.hint):
                assert ", ".join(choices(member)) in flowing
    for name in specs_of(DatasetConfig):
        assert re.search(rf"^  {name}: ", text, re.M)
    assert "default 2e-05" in flowing and "required" in flowing
