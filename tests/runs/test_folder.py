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


@pytest.mark.parametrize(
    "left", [".processes.part", ".run.lock", ".config.json.part", ".report.html.ab_12.part"]
)
def test_every_leftover_of_a_kill_is_recognised(tmp_path: Path, left: str) -> None:
    (tmp_path / left).touch()
    run_folder.prepare_output_dir(str(tmp_path), resuming=False)
    assert [path.name for path in tmp_path.iterdir()] == ([left] if left == ".run.lock" else [])


def test_a_leftover_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / ".x.abc123.part").mkdir()
    (tmp_path / ".x.abc123.part" / "file").touch()
    run_folder.prepare_output_dir(str(tmp_path), resuming=False)
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_its_content_moves_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "run")
    for name in ("run.json", "weights"):
        (link / name).write_text(name)
    run_folder.prepare_output_dir(str(link), resuming=False)
    assert link.is_symlink() and list(link.iterdir()) == []
    (moved,) = (tmp_path / "disk").glob("run.2*")
    assert {path.name: path.read_text() for path in moved.iterdir()} == {
        "run.json": "run.json",
        "weights": "weights",
    }


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"is a link to .*gone, which is not there"):
        run_folder.claim_output_dir(str(tmp_path / "link"), resuming=False)


def test_the_working_directory_can_be_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("run.json").touch()
    run_folder.prepare_output_dir(".", resuming=False)
    assert list(Path().iterdir()) == [] and Path.cwd() == tmp_path / "here"
    assert len(list(tmp_path.glob("here.2*/run.json"))) == 1


def test_beside_a_mount_point_earlier_runs_stay_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renaming across file systems is refused, as between a mount point and the folder above it."""
    run = tmp_path / "run"
    run.mkdir()
    rename = Path.rename

    def within(path: Path, target: Path) -> Path:
        if not Path(target).is_relative_to(run):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", within)
    for content in ("first", "second"):
        (run / "run.json").write_text(content)
        run_folder.prepare_output_dir(str(run), resuming=False)
    moved = run.glob(f"{run_folder.EARLIER}.*/run.json")
    assert {path.read_text() for path in moved} == {"first", "second"}
    assert list(tmp_path.iterdir()) == [run]
    run_folder.prepare_output_dir(str(run), resuming=False)  # nothing but earlier runs: nothing to move
    assert len(list(run.iterdir())) == 2
