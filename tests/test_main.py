"""Dispatch: finding commands without importing them, exit statuses, one-line errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import hf_align
import hf_align.__main__ as cli
import hf_align.commands
from hf_align.runs.releases import SAID

MODULE = '''"""Say what it was given.

More text that the list leaves out.
"""

import json
from pathlib import Path

from hf_align.errors import UserError

def main(argv=None):
    Path(__file__).with_suffix(".json").write_text(json.dumps(list(argv)))
    if "mistake" in argv:
        raise UserError("r.yaml:3: beta: found the text 'x', expected a number.")
    if "interrupt" in argv:
        raise KeyboardInterrupt
    if "refused" in argv:
        raise OSError(int(argv[-1]), "no", "x" * 300)
    if "bug" in argv:
        raise ZeroDivisionError("a bug")
    return 7 if "seven" in argv else None
'''


@pytest.fixture
def commands(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "say_it.py").write_text(MODULE)
    (tmp_path / "broken_when_imported.py").write_text('"""``raises`` when imported."""\nraise OSError')
    modules = ("broken_when_imported", "say_it")
    monkeypatch.setattr(cli, "COMMANDS", {name.replace("_", "-"): name for name in modules})
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_commands_are_found_without_importing_them(commands):
    assert cli.find_commands() == {
        "broken-when-imported": "raises when imported.",
        "say-it": "Say what it was given.",
    }


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(commands, capsys, arguments):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert "say-it                Say what it was given." in text
    assert "More text" not in text


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    first, empty, *table = capsys.readouterr().out.splitlines()
    assert (first, empty) == (f"hf-align {hf_align.__version__}", "")
    assert table[0].split() == ["library", "installed", "tested"]
    (torch,) = [line.split() for line in table if line.startswith("torch ")]
    assert torch[1] == metadata.version("torch") and torch[2].startswith(">=")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["say-it"], ["note: transformers 5.99.0"]),
        (["say-it", "--help"], []),
        (["report"], []),
        (["no-such"], []),
    ],
)
def test_a_release_that_was_not_tested_is_one_line_before_a_run(
    commands, capsys, monkeypatch, arguments, said
):
    (commands / "pages.py").write_text('"""Pages."""')
    monkeypatch.setitem(cli.COMMANDS, "report", "pages")
    monkeypatch.setitem(sys.modules, "pages", SimpleNamespace(main=lambda argv: 0))
    version = metadata.version
    faked = {"transformers": "5.99.0", "torch": "2.11.0"}
    monkeypatch.setattr(metadata, "version", lambda name: faked.get(name) or version(name))
    monkeypatch.delenv(SAID)
    status = cli.main(arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("error: ")]
    assert status == (2 if arguments == ["no-such"] else 0)
    assert [line.partition(":")[0] + ":" + line.split(":")[1] for line in lines] == said


def test_a_command_gets_its_arguments(commands):
    assert cli.main(["say-it", "--config", "r.yaml"]) == 0
    assert (commands / "say_it.json").read_text() == '["--config", "r.yaml"]'
    assert cli.main(["say-it", "seven"]) == 7


def test_unknown_command(commands, capsys):
    assert cli.main(["say-at"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 'say-at': unknown command") and "Did you mean 'say-it'?" in error
    for name in ("../say_it", "say_it", ""):
        assert cli.main([name]) == 2


def test_a_user_error_is_one_line_and_status_2(commands, capsys):
    assert cli.main(["say-it", "mistake"]) == 2
    assert capsys.readouterr().err == "error: r.yaml:3: beta: found the text 'x', expected a number.\n"


@pytest.mark.parametrize("code", ["EACCES", "EROFS", "ENAMETOOLONG", "ENOTDIR"])
def test_what_the_system_refuses_is_one_line_and_status_2(commands, capsys, code):
    assert cli.main(["say-it", "refused", str(getattr(errno, code))]) == 2
    assert capsys.readouterr().err == f"error: {'x' * 200}: no\n"


def test_an_interrupt_is_status_130(commands):
    assert cli.main(["say-it", "interrupt"]) == 130


def test_a_bug_keeps_its_traceback(commands):
    with pytest.raises(ZeroDivisionError):
        cli.main(["say-it", "bug"])


def test_as_a_module():
    process = subprocess.run(
        [sys.executable, "-m", "hf_align", "no-such-command"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: 'no-such-command': unknown command")
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reader_that_has_gone_is_no_error(size):
    # What `| head` does to a long output; a short one fails only when it is flushed.
    reader, writer = os.pipe()
    os.close(reader)
    code = f"import sys, hf_align.__main__ as c; c.usage = lambda: 'x' * {size}; sys.exit(c.main([]))"
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    os.close(writer)
    assert process.stderr == b""
    assert process.returncode == 141


def test_another_broken_pipe_is_a_bug(commands, monkeypatch):
    def broken(arguments):
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_run", broken)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    with pytest.raises(BrokenPipeError):
        cli.main(["say-it"])
