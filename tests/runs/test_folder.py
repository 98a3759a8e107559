"""What is done with what lies in the run folder, and what is noted of a run that is cut short."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from hf_align.config import load_recipe
from hf_align.errors import UserError
from hf_align.runs import folder as run_folder
from hf_align.runs import releases
from hf_align.runs.schema import Record
from hf_align.sft.recipe import SftConfig


def recipe(folder: Path) -> SftConfig:
    path = folder / "recipe.yaml"
    path.write_text("model_name_or_path: m\ndatasets: d.jsonl\n")
    return load_recipe(SftConfig, path, {"output_dir": str(folder / "run")})


def record(folder: Path, *, resuming: bool = False, main: bool = True) -> run_folder.RunRecord:
    return run_folder.RunRecord("sft", recipe(folder), str(folder / "run"), resuming=resuming, main=main)


def test_what_a_kill_left_before_the_first_run_json_is_cleaned_up(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".run.json.abc.part").touch()
    run_folder.prepare_output_dir(str(run), resuming=False)
    assert list(run.iterdir()) == []


def test_leftovers_go_and_everything_else_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("deleted-checkpoint-3", "incomplete-checkpoint-4", "checkpoint-2"):
        (run / name).mkdir(parents=True)
    for name in ("run.json", ".run.json.abc.part", "metrics.jsonl"):
        (run / name).touch()
    run_folder.prepare_output_dir(str(run), resuming=True)
    assert {path.name for path in run.iterdir()} == {
        "incomplete-checkpoint-4",
        "checkpoint-2",
        "run.json",
        "metrics.jsonl",
    }


def test_two_earlier_runs_moved_within_a_second_do_not_meet(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for content in ("first", "second", "third"):
        run_folder.prepare_output_dir(str(run), resuming=False)
        (run / "run.json").write_text(content)
    run_folder.prepare_output_dir(str(run), resuming=False)
    moved = sorted(tmp_path.glob("run.2*"))
    assert {(folder / "run.json").read_text() for folder in moved} == {"first", "second", "third"}


def test_a_folder_with_other_things_and_a_leftover_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    (tmp_path / ".thesis.part").touch()
    with pytest.raises(UserError, match="not a run folder"):
        run_folder.prepare_output_dir(str(tmp_path), resuming=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_process_that_does_not_see_the_folder_is_an_error(tmp_path: Path) -> None:
    run_folder.check_shared(str(tmp_path), main=True, wait=lambda: None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not visible"):
        run_folder.check_shared(str(tmp_path), main=False, wait=lambda: None)


def test_any_end_but_the_right_one_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = record(tmp_path)
    with pytest.raises(ZeroDivisionError), run_folder.marked_if_cut_short(held, "resume-command"):
        raise ZeroDivisionError
    assert json.loads(held.path.read_text())["status"] == "interrupted"
    assert "before the first checkpoint" in capsys.readouterr().err
    with run_folder.marked_if_cut_short(record(tmp_path), "resume-command"):
        pass
    assert json.loads(held.path.read_text())["status"] == "running"


def test_run_json_that_cannot_be_written_does_not_hide_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = record(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run.json")

    monkeypatch.setattr(run_folder, "write_json", full)
    with (
        pytest.raises(UserError, match="no space left on the disk"),
        run_folder.marked_if_cut_short(held, "resume-command"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_run_json_has_the_tested_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "_installed", {"torch": "2.10.0", "peft": "99"}.get)
    written = json.loads(record(tmp_path).path.read_text())
    assert written["tested_versions"]["torch"].startswith(">=2.11,<")
    assert written["untested_versions"] == {"torch": "older", "peft": "newer"}


def test_a_resumed_run_adds_to_its_time_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    held = record(tmp_path)
    held.started -= 100
    held.update(Record(generations=[{"before": "x"}]))
    again = record(tmp_path, resuming=True)
    assert again.content["generations"] == [{"before": "x"}]
    assert again.content["wall_time_seconds"] >= 100
