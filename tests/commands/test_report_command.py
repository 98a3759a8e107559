"""``hf-align report``."""

from __future__ import annotations

import json

import pytest

from hf_align.__main__ import main as hf_align
from hf_align.commands.report import main
from hf_align.errors import UserError
from hf_align.runs.record import write_json


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        write_json(folder / "run.json", {"command": "sft", "status": "interrupted"})
    return folders


def test_both_pages_of_a_run_are_written_and_named(runs, capsys):
    assert main([str(runs[0])]) == 0
    expected = [str(runs[0] / name) for name in ("report.html", "README.md")]
    assert capsys.readouterr().out.split() == expected
    assert "interrupted" in (runs[0] / "report.html").read_text()
    assert (runs[0] / "README.md").read_text().startswith("---\n")
    assert not (runs[0].parent / "comparison.html").exists()


def test_old_pages_are_replaced(runs):
    (runs[0] / "report.html").write_text("old")
    main([str(runs[0])])
    assert (runs[0] / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_several_runs_are_compared_and_left_as_they_are(runs, tmp_path, capsys):
    assert main([str(folder) for folder in runs]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "comparison.html")]
    assert "2 runs compared" in (tmp_path / "comparison.html").read_text()
    assert [path.name for folder in runs for path in folder.iterdir()] == ["run.json", "run.json"]


def test_the_comparison_goes_where_it_is_wanted(runs, tmp_path, capsys):
    main([str(runs[0]), "--output", str(tmp_path / "new" / "page.html"), str(runs[1])])
    assert (tmp_path / "new" / "page.html").is_file() and not (tmp_path / "comparison.html").exists()
    main([*map(str, runs), f"--output={tmp_path / 'other.html'}"])
    assert capsys.readouterr().out.split()[-1] == str(tmp_path / "other.html")


def test_the_runs_own_pages_on_request(runs, tmp_path, capsys):
    main([*map(str, runs), "--rewrite"])
    own = [str(folder / name) for folder in runs for name in ("report.html", "README.md")]
    assert capsys.readouterr().out.split() == [str(tmp_path / "comparison.html"), *own]
    assert all((folder / "report.html").is_file() for folder in runs)


def test_a_folder_that_is_no_run_stops_before_anything_is_written(runs, tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"c: run\.json is missing"):
        main([str(runs[0]), str(tmp_path / "c")])
    assert not (tmp_path / "comparison.html").exists()
    assert json.loads((runs[0] / "run.json").read_text())["status"] == "interrupted"


def test_a_run_is_not_compared_with_itself(runs, tmp_path):
    with pytest.raises(UserError, match=r"a/\.\./a: this run is given twice \('.*a'\)"):
        main([str(runs[0]), f"{runs[0]}/../a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no run folder given"),
        (["--run", "x"], "--run: unknown option"),
        (["--outputs", "x"], "Did you mean '--output'"),
        (["a", "b", "--output"], "a value is missing"),
        (["a", "b", "--output", "x", "--output", "y"], "given twice"),
        (["a", "b", "--output", "."], r"the folder '\.'"),
        (["a", "b", "--rewrite=yes"], "expected none"),
        (["a", "--output", "x"], "found one run"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_through_the_front_door(tmp_path, capsys):
    assert hf_align(["report", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert hf_align(["report", "--help"]) == 0
    assert "usage: hf-align report RUN" in capsys.readouterr().out
