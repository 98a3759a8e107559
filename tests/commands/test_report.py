"""``hf-align report``."""

from __future__ import annotations

import pytest

from hf_align.__main__ import main as hf_align
from hf_align.commands.report import main
from hf_align.errors import UserError
from hf_align.reporting.run_record import write_json


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        write_json(folder / "run.json", {"command": "sft", "status": "interrupted"})
    return folders


def test_both_pages_of_every_run_are_written_and_named(runs, capsys):
    assert main([str(folder) for folder in runs]) == 0
    expected = [str(folder / name) for folder in runs for name in ("report.html", "README.md")]
    assert capsys.readouterr().out.split() == expected
    assert all("interrupted" in (folder / "report.html").read_text() for folder in runs)
    assert all((folder / "README.md").read_text().startswith("---\n") for folder in runs)


def test_old_pages_are_replaced(runs):
    (runs[0] / "report.html").write_text("old")
    main([str(runs[0])])
    assert (runs[0] / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_folder_that_is_no_run_stops_before_anything_is_written(runs, tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"c: run\.json is missing"):
        main([str(runs[0]), str(tmp_path / "c")])
    assert not (runs[0] / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no run folder given"), (["--run", "x"], "--run: report takes no options")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_through_the_front_door(tmp_path, capsys):
    assert hf_align(["report", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert hf_align(["report", "--help"]) == 0
    assert "usage: hf-align report RUN" in capsys.readouterr().out
