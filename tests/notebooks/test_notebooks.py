"""The notebooks are what their sources say, name only what exists, hold no outputs, and run to their end.

They are executed small: tiny random models, a few steps, no network. What the commands in them do is tested
elsewhere; here it counts that no cell fails and that something is shown.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.documentation import ROOT
from helpers.scripts import SCRIPTS, load_script

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
LONGEST_RESULT = 2000
"""Characters of a result that is printed as text: more is a value that somebody forgot to catch."""


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return load_script(SCRIPTS / "build_notebooks.py")


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return load_script(SCRIPTS / "run_notebooks.py")


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


def texts(name: str, kind: str | None = None) -> list[str]:
    """The text of each cell, or of those of one kind."""
    return ["".join(cell["source"]) for cell in read(name)["cells"] if kind in (None, cell["cell_type"])]


def test_there_are_seven_numbered_notebooks() -> None:
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(1, 8)]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_source_says(name: str, builder: ModuleType) -> None:
    source = (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    assert read(name) == builder.notebook(name, source, builder.repository())


@pytest.mark.parametrize("name", NAMES)
def test_the_format_is_valid_and_holds_no_outputs(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    content = read(name)
    nbformat.validate(content)
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_colab_and_finds_or_fetches_the_project(name: str, builder: ModuleType) -> None:
    opening, install, *_ = texts(name)
    repository = builder.repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
    assert opening.startswith("# ") and f"]({colab})" in opening
    assert f'REPOSITORY = "{builder.repository()}"' in install and "pip" in install and "clone" in install


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_chooses_the_size(name: str) -> None:
    cells = texts(name, "code")
    assert "".join(cells).count('os.environ.get("HF_ALIGN_NOTEBOOK_SMALL")') == 1
    assert 'os.environ.get("HF_ALIGN_NOTEBOOK_SMALL")' in cells[1]


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_named_exists(name: str) -> None:
    everything = "\n".join(texts(name))
    named = set(re.findall(r"\b(?:recipes|docs|data|scripts)/[\w/-]+\.(?:yaml|md|jsonl|py)\b", everything))
    assert named
    written = "\n".join(texts(name, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", written) if "://" not in link]
    assert links
    paths = [ROOT / path for path in named] + [ROOT / "notebooks" / link for link in links]
    assert [path for path in paths if not path.exists()] == []
    assert not re.findall(r"(?<![\w.}])/(?:home|root|tmp|work|usr|content|Users)/", everything)


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_by_pointing_to_the_documentation(name: str) -> None:
    cell = read(name)["cells"][-1]
    assert cell["cell_type"] == "markdown"
    assert "## Read on" in "".join(cell["source"]) and "](../docs/" in "".join(cell["source"])


def test_cells_of_a_source(builder: ModuleType) -> None:
    source = "# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\nx = 1\n\n# not a border\ny = 2\n\n# %%\nz = 3\n"
    assert builder.read_cells(source) == [
        ("markdown", "# Title\n\nText"),
        ("code", "x = 1\n\n# not a border\ny = 2"),
        ("code", "z = 3"),
    ]
    with pytest.raises(ValueError, match="line 1"):
        builder.read_cells("x = 1\n# %%\n")
    with pytest.raises(ValueError, match="line 3: expected a comment"):
        builder.read_cells("# %% [markdown]\n# # Title\nforgotten\n")
    with pytest.raises(ValueError, match="begins with a title"):
        builder.notebook("x", "# %%\nx = 1\n", builder.UNKNOWN)


def test_badge_and_install_cell_follow_the_project(builder: ModuleType) -> None:
    made = builder.notebook(
        "x", "# %% [markdown]\n# # Title\n#\n# Text\n", "https://github.com/someone/hf_align"
    )
    opening, install = ("".join(cell["source"]) for cell in made["cells"][:2])
    assert "/github/someone/hf_align/blob/main/notebooks/x.ipynb" in opening
    assert opening.splitlines()[0] == "# Title" and opening.splitlines()[-1] == "Text"
    assert '"https://github.com/someone/hf_align"\n' in install


@pytest.fixture
def first_cell(builder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run the first cell of a notebook of a published project somewhere; returns what it started."""
    before = list(sys.path)

    def run(folder: Path, published: str = "https://github.com/someone/hf_align") -> list[list[str]]:
        started: list[list[str]] = []

        def record(command: list[str], check: bool) -> None:
            started.append(command)
            if command[0] == "git":
                make_checkout(folder / command[-1])

        monkeypatch.setattr(subprocess, "run", record)
        monkeypatch.chdir(folder)
        made = builder.notebook("01_x", "# %% [markdown]\n# # Title\n", published)
        exec("".join(made["cells"][1]["source"]), {})
        return started

    yield run
    sys.path[:] = before


def make_checkout(folder: Path) -> Path:
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "01_x.ipynb").touch()
    return folder


def test_the_first_cell_goes_to_the_checkout_it_is_in(first_cell: Any, tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "somewhere")
    assert first_cell(checkout / "notebooks") == [] and Path.cwd() == checkout
    assert sys.path[:2] == [str(checkout), str(checkout / "scripts")]
    # Once more, as one does.
    assert first_cell(checkout) == [] and Path.cwd() == checkout


def test_the_first_cell_fetches_and_installs_the_project_elsewhere(first_cell: Any, tmp_path: Path) -> None:
    clone, install = first_cell(tmp_path)
    assert clone == [*"git clone --quiet --depth 1 https://github.com/someone/hf_align hf_align".split()]
    assert install[1:] == "-m pip install --quiet --editable hf_align[demo]".split()
    assert Path.cwd() == tmp_path / "hf_align"
    # A second time it finds what is there.
    assert first_cell(tmp_path) == [] and Path.cwd() == tmp_path / "hf_align"


def test_the_first_cell_says_what_it_has_to_be_told(
    first_cell: Any, builder: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="into REPOSITORY"):
        first_cell(tmp_path, builder.UNKNOWN)


def test_check_names_stale_notebooks(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    monkeypatch.setattr(builder, "NOTEBOOKS", tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = x\n")
    (tmp_path / "01_a.py").write_text("# %% [markdown]\n# # A\n")
    assert builder.main(["--check"]) == 1 and not (tmp_path / "01_a.ipynb").exists()
    assert "01_a.ipynb" in capsys.readouterr().out
    assert builder.main([]) == 0 and builder.main(["--check"]) == 0


def test_the_address_is_read_from_one_place(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    for lines, expected in (
        ("name = x\n", builder.UNKNOWN),
        ("url = https://github.com/some-one/hf_align.git\n", "https://github.com/some-one/hf_align"),
        ("url = https://github.com/some-one/hf_align/\n", "https://github.com/some-one/hf_align"),
    ):
        (tmp_path / "setup.cfg").write_text(f"[metadata]\n{lines}")
        assert builder.repository() == expected
    (tmp_path / "setup.cfg").write_text("[metadata]\nurl = https://example.org/x\n")
    with pytest.raises(
        ValueError, match=r"url: found 'https://example\.org/x', expected https://github\.com/"
    ):
        builder.repository()


def test_bars_that_overwrite_themselves_leave_their_last_state(runner: ModuleType) -> None:
    nbformat = pytest.importorskip("nbformat")
    stream = [
        nbformat.v4.new_output("stream", name=name, text=text)
        for name, text in (
            ("stderr", "\rtraining:   0%"),
            ("stderr", "\rtraining: 100%\n"),
            ("stdout", "done\n"),
            ("stderr", "\rreading: 1\rreading: 2\r         \r"),
        )
    ]
    assert [(each.name, each.text) for each in runner.settled(stream)] == [
        ("stderr", "training: 100%\n"),
        ("stdout", "done\n"),
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom(name: str, runner: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    places = {"TMPDIR": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    executed = runner.execute(
        ROOT / "notebooks" / f"{name}.ipynb", small=True, timeout=600, environment=places
    )
    pictures = 0
    for cell in executed.cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count is not None
        for output in cell.outputs:
            if output.output_type == "stream":
                assert "Traceback" not in output.text and "Warning" not in output.text, output.text
                continue
            data = output.data
            pictures += "image/png" in data or "<svg" in data.get("text/html", "")
            assert "text/html" in data or len(data.get("text/plain", "")) < LONGEST_RESULT, cell.source
    assert pictures
