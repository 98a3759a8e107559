"""docs/extending.md, followed to the letter in a copy of the project, and the tests run that it names."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.documentation import ROOT, commands, read

PAGE = "docs/extending.md"
COPIED = ("hf_align", "recipes", "tests", "data", "docs", "scripts", "benchmarks", ".ci")
FILES = ("Makefile", "setup.cfg", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
DESCRIBED = ("A recipe key",)
"""Sections that describe and change nothing."""
SECTIONS = (
    "A pairwise loss",
    "An RL algorithm",
    "A collator for pre-training",
    "An adapter method",
    "A stage",
    "A training objective with rows of its own",
)
_PATH = re.compile(r"`([\w./-]+\.\w+|Makefile)`")


@dataclass(frozen=True)
class Step:
    """A block of the page: the file that it is about, what is in it, and whether it is a whole new file."""

    file: str
    text: str
    new: bool


def section(title: str) -> str:
    _, _, rest = read(PAGE).partition(f"\n## {title}\n")
    assert rest, f"{PAGE} has no section '{title}'"
    return rest.partition("\n## ")[0]


def steps(text: str) -> list[Step]:
    """The blocks of code in order; the paragraph in front names the file, or the block before did."""
    found: list[Step] = []
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip()
        paragraph = before.rpartition("\n\n")[2]
        named = _PATH.search(paragraph)
        file = found[-1].file if before.endswith("```") else named[1] if named else ""
        assert file, f"no file is named for:\n{match[2]}"
        found.append(Step(file, match[2], new=paragraph.startswith("New file")))
    return found


def apply(step: Step, folder: Path) -> None:
    """Write the file, or put the lines with + between those that are there (and take those with - out)."""
    path = folder / step.file
    if step.new:
        assert not path.exists(), f"{step.file} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text, encoding="utf-8")
        return
    lines = step.text.splitlines(keepends=True)
    assert {line[0] for line in lines} <= set(" +-"), step.text
    old = "".join(line[1:] for line in lines if line[0] != "+")
    new = "".join(line[1:] for line in lines if line[0] != "-")
    if step.text.startswith(" def "):  # what is added goes in front of this function
        old, new = lines[0][1:], "".join(line[1:] for line in [*lines[1:], lines[0]])
    content = path.read_text(encoding="utf-8")
    if "…" in old:  # the rest of a line, whatever it is
        pattern = "(.*)".join(map(re.escape, old.split("…")))
        found = re.search(pattern, content)
        assert found is not None, f"{step.file} has no line:\n{old}"
        old, new = found[0], new.replace("…", found[1])
    assert content.count(old) == 1, f"{step.file} has {content.count(old)} times:\n{old}"
    path.write_text(content.replace(old, new), encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", ".*cache*", "api")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *arguments]
    result = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{shlex.join(call)}\n{result.stdout[-6000:]}{result.stderr[-3000:]}"
    return result.stdout


def named_tests(text: str) -> list[list[str]]:
    """What pytest is given by each "make test" and "make test-all" of a section."""
    found = []
    for command in commands(PAGE, text):
        match = re.fullmatch(r'make (test|test-all) ARGS="([^"]*)"', command.text)
        if match is not None:
            found.append([*shlex.split(match[2]), *([] if match[1] == "test-all" else ["-m", "not slow"])])
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_works_as_it_stands(title: str, copy: Path) -> None:
    text = section(title)
    followed = steps(text)
    for step in followed:
        apply(step, copy)
    if title == "An adapter method":
        new_table(copy)
    changed = sorted({step.file for step in followed if step.file.endswith(".py")})
    python(copy, "-m", "ruff", "check", *changed)
    python(copy, "-m", "ruff", "format", "--check", *changed)
    assert named_tests(text)
    for arguments in named_tests(text):
        output = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
        assert re.search(r"\d+ passed", output), output
    for command in commands(PAGE, text):
        if re.match(r"hf-align [a-z]", command.text):
            python(copy, "-c", _READ, *shlex.split(command.text)[1:])


_READ = """
import sys
sys.path.insert(0, "tests")
from helpers.documented_commands import read
assert read(sys.argv[1:]) is not None
"""


def new_table(folder: Path) -> None:
    """The table of docs/adapters.md from the script that prints it."""
    page = folder / "docs" / "adapters.md"
    printed = python(folder, "tests/helpers/adapter_matrix.py")
    content = page.read_text(encoding="utf-8")
    start, end = content.index("| method | start |"), content.index("\n## In Python")
    page.write_text(content[:start] + printed + content[end:], encoding="utf-8")


def test_the_sections_are_all_there() -> None:
    assert re.findall(r"^## (.*)$", read(PAGE), flags=re.MULTILINE) == [*SECTIONS, *DESCRIBED]
    assert all(steps(section(title)) and named_tests(section(title)) for title in SECTIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_what_a_section_changes_is_there(title: str, copy: Path) -> None:
    """The quick part: every block finds its place in today's files."""
    for step in steps(section(title)):
        apply(step, copy)
    for step in steps(section(title)):
        if step.file.endswith(".py"):
            compile((copy / step.file).read_text(encoding="utf-8"), step.file, "exec")
