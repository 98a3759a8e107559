"""Entries of ``stages``: names, seeds, recipes to begin from, and the recipe that a step is run with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_align.errors import UserError
from hf_align.pipeline.stages import HELP, Step, read_steps
from hf_align.stages import PIPELINE_COMMANDS

SFT = {"command": "sft", "model_name_or_path": "m", "datasets": "a.jsonl"}


def steps(*entries: object, seeds: tuple[int, ...] = (42,)) -> dict[str, Step]:
    nodes = yaml.compose(yaml.safe_dump(list(entries)), Loader=yaml.SafeLoader).value
    return {s.name: s for s in read_steps(nodes, "p.yaml", output_dir="out", seed=42, seeds=seeds)}


def test_the_help_lists_every_command() -> None:
    listed = HELP.partition("name: TEXT")[0]
    assert all(command in listed for command in PIPELINE_COMMANDS)


def test_what_a_step_is_run_with(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("adapter: lora\nlora_r: 4\nmodel_name_or_path: other\nresume_from_checkpoint: auto\n")
    made = steps(
        {**SFT, "recipe": str(recipe)}, {**SFT, "name": "full", "recipe": str(recipe), "adapter": "none"}
    )
    assert made["sft"].recipe(seed=3) == {
        "adapter": "lora",
        "lora_r": 4,
        "model_name_or_path": "m",
        "datasets": made["sft"].config.to_flat()["datasets"],
        "output_dir": "out/sft",
        "seed": 3,
    }
    # Without an adapter its rank would be refused in a recipe file.
    assert "lora_r" not in made["full"].recipe() and made["full"].seed is None


def test_a_stage_of_every_seed_hands_its_seeds_down() -> None:
    made = steps(
        {**SFT, "every_seed": True},
        {**SFT, "command": "dpo", "model_name_or_path": "$sft"},
        {**SFT, "name": "alone"},
        seeds=(1, 2),
    )
    assert list(made) == ["sft-seed1", "sft-seed2", "dpo-seed1", "dpo-seed2", "alone"]
    assert made["dpo-seed2"].uses == ("sft-seed2",) and made["alone"].uses == ()
    assert [made[name].config.to_flat()["seed"] for name in made] == [1, 2, 1, 2, 42]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("sft", "expected a mapping with a 'command'"),
        ({"name": "x"}, "the key 'command' is missing; expected one of: corpus, tokenizer"),
        ({**SFT, "command": "sfft"}, "Did you mean 'sft'"),
        ({**SFT, "name": "A"}, "expected small letters"),
        ({**SFT, "name": "pipeline"}, "keeps files of its own under that name"),
        ({**SFT, "output_dir": "x"}, "the folder of a stage is output_dir/NAME"),
        ({**SFT, "resume_from_checkpoint": "auto"}, "goes on by itself"),
        ({**SFT, "seed": 3, "every_seed": True}, "runs with each of the pipeline's seeds"),
        ({**SFT, "learning_rate": "fast"}, r"stages entry 1 \(sft\): learning_rate: found the text 'fast'"),
        ({**SFT, "load_in_4bit": True}, "quantised weights cannot be trained"),
    ],
)
def test_refused_with_its_place(entry: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        steps(entry)
    assert str(caught.value).startswith("p.yaml:")


def test_two_stages_of_one_name() -> None:
    with pytest.raises(UserError, match="another stage is called 'sft' already"):
        steps(SFT, SFT)
