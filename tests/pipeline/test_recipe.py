"""Recipes of pipelines: references between stages, seeds, and mistakes with their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_align.config import load_recipe
from hf_align.config.fields import choices, specs_of
from hf_align.errors import UserError
from hf_align.pipeline.recipe import Pipeline, load_pipeline
from hf_align.pipeline.stages import StageHead
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

SFT = """
- command: sft
  every_seed: true
  model_name_or_path: models/base
  datasets: [{path: a.jsonl, max_rows: 5}]
  learning_rate: 1e-3
"""


def load(folder: Path, stages: str, head: str = "", *arguments: str) -> Pipeline:
    path = folder / "p.yaml"
    path.write_text(f"output_dir: out\n{head}\nstages:{stages}", encoding="utf-8")
    return load_pipeline(["--config", str(path), *arguments])


def refusal(folder: Path, stages: str, head: str = "", *arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, stages, head, *arguments)
    return str(caught.value).replace(f"{folder}/", "")


def test_commands_are_those_that_an_entry_may_name() -> None:
    assert list(choices(specs_of(StageHead)["command"].hint)) == list(PIPELINE_COMMANDS)


def test_references_become_folders_and_seeds_are_handed_down(tmp_path: Path) -> None:
    stages = SFT + (
        "- {command: dpo, model_name_or_path: $sft, datasets: b.jsonl}\n"
        "- name: other\n  command: dpo\n  model_name_or_path: models/base\n  datasets: '$$x/${sft}_b.jsonl'\n"
        "- {name: alone, command: sft, model_name_or_path: m, datasets: c.jsonl}\n"
        "- command: evaluate\n  models: [{path: $alone, name: a}, {path: $dpo/checkpoint-2, name: b}]\n"
        "  perplexity_datasets: c.jsonl\n"
    )
    steps = {step.name: step for step in load(tmp_path, stages, "seeds: [7, 8]").steps}
    assert list(steps) == [
        *("sft-seed7", "sft-seed8", "dpo-seed7", "dpo-seed8", "other-seed7", "other-seed8", "alone"),
        *("evaluate-seed7", "evaluate-seed8"),
    ]
    assert steps["dpo-seed8"].config.to_flat()["model_name_or_path"] == "out/sft-seed8"
    assert steps["dpo-seed8"].config.to_flat()["seed"] == 8
    assert steps["other-seed7"].config.to_flat()["datasets"][0]["path"] == "$x/out/sft-seed7_b.jsonl"
    assert steps["alone"].config.to_flat()["seed"] == 42
    paths = [entry["path"] for entry in steps["evaluate-seed7"].config.to_flat()["models"]]
    assert paths == ["out/alone", "out/dpo-seed7/checkpoint-2"]
    assert steps["evaluate-seed7"].uses == ("alone", "dpo-seed7")
    assert {name: step.output_dir for name, step in steps.items()} == {name: f"out/{name}" for name in steps}


def test_without_seeds_a_stage_for_every_seed_runs_with_the_one(tmp_path: Path) -> None:
    (step,) = load(tmp_path, SFT, "seed: 3").steps
    assert (step.name, step.seed, step.config.to_flat()["seed"]) == ("sft-seed3", 3, 3)


def test_a_stage_begins_from_a_recipe_and_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "model_name_or_path: m\ndatasets: a.jsonl\nadapter: lora\nlora_r: 4\noutput_dir: elsewhere\n"
        "resume_from_checkpoint: auto\nlearning_rate: 0.5\n",
        encoding="utf-8",
    )
    stages = f"\n- command: sft\n  recipe: {tmp_path}/base.yaml\n  learning_rate: 0.25\n  adapter: none\n"
    (step,) = load(tmp_path, stages).steps
    flat: dict[str, Any] = step.config.to_flat()
    assert (flat["learning_rate"], flat["output_dir"], flat["adapter"]) == (0.25, "out/sft", "none")
    assert flat["resume_from_checkpoint"] is None
    # lora_r has no effect any more; as a recipe of its own the rest is the same again.
    written = step.recipe()
    assert "lora_r" not in written and written["learning_rate"] == 0.25
    import yaml

    (tmp_path / "written.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    again = load_recipe(recipe_class("sft"), tmp_path / "written.yaml").to_flat()
    assert {**again, "lora_r": 4} == flat


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("", "p.yaml:3: stages: found no list"),
        (" []", "found an empty list"),
        (" [{name: a}]", "p.yaml:3: stages entry 1: the key 'command' is missing"),
        (" [{command: stf}]", "p.yaml:3: stages entry 1: command: found the text 'stf'"),
        (" [a]", "p.yaml:3: stages entry 1: expected a mapping"),
        (SFT.replace("1e-3", "much"), "p.yaml:8: stages entry 1 (sft): learning_rate: found the text 'much'"),
        (
            SFT.replace("learning_rate", "learnin_rate"),
            "p.yaml:8: stages entry 1 (sft): learnin_rate: unknown key. Did you mean 'learning_rate'?",
        ),
        (SFT + "  output_dir: x\n", "p.yaml:9: stages entry 1 (sft): output_dir: the folder of a stage is"),
        (SFT + "  resume_from_checkpoint: auto\n", "a pipeline goes on by itself"),
        (SFT + "  seed: 4\n", "p.yaml:9: stages entry 1 (sft): seed: this stage runs with each of"),
        (SFT + SFT[1:], "p.yaml:9: stages entry 2: another stage is called 'sft' already"),
        (SFT + "  name: Big\n", "found 'Big'; expected small letters"),
        (SFT + "  name: pipeline\n", "the pipeline keeps files of its own under that name"),
        (SFT + "  tokenizer_name_or_path: $sft\n", "found $sft, which is this stage itself"),
        (SFT + "  tokenizer_name_or_path: $tok\n", "there is no stage 'tok'; there are: none before"),
        (
            SFT + "- {command: dpo, model_name_or_path: $stf, datasets: a}\n",
            "p.yaml:9: stages entry 2 (dpo): model_name_or_path: found $stf, but there is no stage 'stf'; "
            "there are: $sft. Did you mean 'sft'?",
        ),
        (
            "\n- {command: dpo, model_name_or_path: $sft, datasets: a}" + SFT,
            "found $sft, which comes after this stage",
        ),
        (
            SFT + "  lora_r: 4\n",
            "p.yaml:9: stages entry 1 (sft): lora_r: this has no effect, because",
        ),
        ("\n- {command: sft, datasets: a}", "p.yaml:4: stages entry 1 (sft): the required key 'model_name"),
        ("\n- {command: evaluate, model_name_or_path: m}", "p.yaml:4: stages entry 1 (evaluate): "),
        ("\n- {command: sft, recipe: no.yaml}", "there is no such recipe file"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path: Path, stages: str, message: str) -> None:
    assert message in refusal(tmp_path, stages)


def test_mistakes_beside_the_stages(tmp_path: Path) -> None:
    assert "p.yaml:2: seds: unknown key. Did you mean 'seeds'?" in refusal(tmp_path, SFT, "seds: [1]")
    assert "1 is given twice" in refusal(tmp_path, SFT, "seeds: [1, 1]")
    assert "there is no stage 'stf'; there are: sft. Did you mean 'sft'?" in refusal(
        tmp_path, SFT, "", "--rerun", "stf"
    )
    assert "in the recipe file, not on the command line" in refusal(tmp_path, SFT, "", "--stages", "[]")
    (tmp_path / "none.yaml").write_text("output_dir: x\n", encoding="utf-8")
    with pytest.raises(UserError, match="the required key 'stages' is missing"):
        load_pipeline(["--config", str(tmp_path / "none.yaml")])
    with pytest.raises(UserError, match="--config is missing"):
        load_pipeline([])


def test_help_names_the_keys_of_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_pipeline(["--help"])
    text = capsys.readouterr().out
    assert "--keep_after_upgrade" in text and "every_seed" in text
    assert all(command in " ".join(text.split()) for command in PIPELINE_COMMANDS)
