"""Every pipeline under recipes/ is read as its command reads it, and so is the recipe of each step."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_align.config import load_recipe
from hf_align.pipeline.recipe import load_pipeline
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

COMMANDS = {name: recipe_class(name) for name in PIPELINE_COMMANDS}

ROOT = Path(__file__).parent.parent
PIPELINES = sorted(path.relative_to(ROOT) for path in ROOT.glob("recipes/pipeline/*.yaml"))
ALIGNED = {"dpo", "ipo", "ppo", "raft"}


@pytest.mark.parametrize("path", PIPELINES, ids=str)
def test_steps_read_what_the_pipeline_writes_for_them(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    pipeline = load_pipeline(["--config", str(path)])
    for step in pipeline.steps:
        written = tmp_path / f"{step.name}.yaml"
        written.write_text(yaml.safe_dump(step.recipe(), sort_keys=False), encoding="utf-8")
        flat = step.config.to_flat()
        again = load_recipe(COMMANDS[step.command], written).to_flat()
        dropped = {key for key in step.keys if key not in step.recipe()}
        assert {key: again[key] for key in flat if key not in dropped} == {
            key: flat[key] for key in flat if key not in dropped
        }


@pytest.mark.parametrize("path", PIPELINES, ids=str)
def test_files_are_there_and_stages_are_compared(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    steps = load_pipeline(["--config", str(path)]).steps
    for step in steps:
        flat = step.config.to_flat()
        for key, value in flat.items():
            if key.endswith("datasets"):
                assert all(entry["path"] == "python_docs" or Path(entry["path"]).is_file() for entry in value)
        for name in flat.get("reward_functions", []):
            assert Path(name.rpartition(":")[0]).is_file()
    stages = {step.stage for step in steps}
    assert stages >= {"sft", "reward", *ALIGNED}
    evaluate = steps[-1].config.to_flat()
    # Differences are taken from the model that alignment starts from, on prompts that nothing was trained on.
    assert evaluate["models"][0]["name"] == "sft"
    assert {model["name"] for model in evaluate["models"]} >= ALIGNED
    trained = [entry for step in steps for entry in step.config.to_flat().get("datasets", [])]
    for task in evaluate["generation_tasks"]:
        seen = [entry for entry in trained if entry["path"] == task["path"]]
        assert all(entry["max_rows"] <= task["skip_rows"] for entry in seen)
    assert evaluate["reward_functions"] and evaluate["reward_model"]
