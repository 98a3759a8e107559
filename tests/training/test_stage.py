"""A stage around its training: what is checked before data are prepared, and what its record begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer, write_orders

from hf_align.config import TrainingConfig
from hf_align.data.prepare import prepare_datasets
from hf_align.errors import UserError
from hf_align.runs.record import read_run
from hf_align.sft.recipe import SftConfig
from hf_align.training import stage


def config(folder: Path, **options: Any) -> SftConfig:
    given = {
        "model_name_or_path": save_tiny_checkpoint(folder / "model"),
        "datasets": [{"path": write_orders(folder / "rows.jsonl", 9)}],
        "output_dir": str(folder / "run"),
        "use_cpu": True,
        "max_length": 256,
        "dataset_cache": False,
    }
    return SftConfig.from_flat({**given, **options})


def test_the_machine_is_settled_first(tmp_path: Path) -> None:
    machine = stage.begin(TrainingConfig(output_dir=str(tmp_path / "run"), use_cpu=True, precision="fp32"))
    assert machine.use_cpu and machine.main and machine.precision == "fp32"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="output_dir"):
        stage.begin(TrainingConfig(output_dir=str(tmp_path / "file"), use_cpu=True))


def test_the_record_begins_with_data_and_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = config(tmp_path)
    machine, tokenizer = stage.begin(given.training), tiny_tokenizer()
    data = prepare_datasets(given.data, tokenizer, seed=given.training.seed)
    run = stage.open_run("sft", given, machine, tokenizer, data)
    assert run.checkpoint is None and run.training is given.training and run.identity["processes"] == 1
    record = read_run(tmp_path / "run")
    assert record["command"] == "sft" and record["data_report"]["total"]["kept"] == 9
    assert len(record["mask_samples"]) == stage.MASK_SAMPLES
    assert "9" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError), run.watched():
        raise ZeroDivisionError
    assert read_run(tmp_path / "run")["status"] == "interrupted"
