"""The command that resumes a run, and what one process decides for all."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from hf_align.config import load_config
from hf_align.errors import UserError
from hf_align.runs import processes
from hf_align.sft.recipe import SftConfig


@pytest.fixture
def config(tmp_path: Path) -> SftConfig:
    path = tmp_path / "a recipe.yaml"
    path.write_text("model_name_or_path: m\ndatasets: d.jsonl\noutput_dir: run\n")
    arguments = ["--config", str(path), "--system_prompt", "Be brief: 'yes'", "--learning_rate", "1e-4"]
    arguments += ["--report_to", "[tensorboard]", "--use_cpu", "--resume_from_checkpoint", "run/checkpoint-3"]
    return load_config(SftConfig, arguments)


def test_the_command_read_again_gives_the_same_recipe(
    config: SftConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hf-align", "sft"])
    program, command, *arguments = shlex.split(processes.command_to_resume("sft", config))
    assert (program, command) == ("hf-align", "sft")
    again = load_config(SftConfig, arguments).to_flat()
    assert again == {**config.to_flat(), "resume_from_checkpoint": "auto"}


def test_how_it_was_launched_is_part_of_the_command(
    config: SftConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/hf_align/__main__.py", "sft"])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    parts = shlex.split(processes.command_to_resume("sft", config))
    assert parts[1:4] == ["-m", "hf_align", "sft"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert " -m torch.distributed.run --standalone --nproc_per_node 2 -m hf_align sft " in (
        processes.command_to_resume("sft", config)
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert processes.command_to_resume("sft", config).startswith("the command that started it")


def test_one_process_decides_for_itself_and_its_error_passes() -> None:
    processes.start(use_cpu=True)
    assert processes.on_main(lambda: "decided") == "decided"

    def refuse() -> None:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        processes.on_main(refuse)


@pytest.mark.parametrize(("value", "message"), [("two", "expected a number"), ("3", "3, but 1 process")])
def test_a_wrong_number_of_processes_is_an_error(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("NPROC", value)
    with pytest.raises(UserError, match=message):
        processes.start(use_cpu=True)
