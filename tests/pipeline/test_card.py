"""The card of a pipeline, also of one that has only begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_align.errors import UserError
from hf_align.pipeline.card import pipeline_card
from hf_align.reporting.model_card import write_model_card

STEP = {"name": "sft", "stage": "sft", "command": "sft", "seed": None, "output_dir": "x", "status": "waiting"}
RECORD = {
    "command": "pipeline",
    "status": "running",
    "recipe_path": "recipes/pipeline/quickstart.yaml",
    "recipe": {"output_dir": "runs/p"},
    "steps": [STEP],
    "pipeline": {"steps": {}, "evaluations": []},
}


def test_stages_and_how_to_run_it_again() -> None:
    text = pipeline_card(RECORD)
    assert text.startswith("# ") and "## Stages" in text and "sft" in text
    assert "`hf-align pipeline --config recipes/pipeline/quickstart.yaml`" in text
    assert not text.startswith("---"), "every model has a card of its own"


def test_written_from_the_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    assert write_model_card(tmp_path).read_text() == pipeline_card(RECORD)
    with pytest.raises(UserError):
        write_model_card(tmp_path / "none")
