"""Write the notebooks (notebooks/*.ipynb) from their sources (notebooks/*.py), or check that they agree.

    python scripts/build_notebooks.py [--check]

A source is a Python file in the percent format (Jupytext, Spyder, VS Code): ``# %%`` begins a code cell and
``# %% [markdown]`` one of text, whose lines are comments. What all notebooks have in common is added here, so
that it is the same in each: the Colab badge below the title, and the cell that finds or fetches the project.
The ids of cells follow from the notebook and the number of the cell; outputs are never stored. With --check
nothing is written, and the exit status is 1 where a notebook is not what its source says.

The address that the project is published under comes from ``url`` in setup.cfg, if it has one: it is set
in no other place.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CELL = "# %%"
TEXT = "# %% [markdown]"
UNKNOWN = "https://github.com/OWNER/hf_align"
"""Stands where setup.cfg does not say yet where the project is published."""

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
INSTALL = """\
# Works from a checkout as it is. Opened by itself, as on Colab, it fetches the project and installs it.
import logging
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = "{repository}"{comment}

places = [Path.cwd(), *Path.cwd().parents, Path("hf_align")]
root = next((place for place in places if (place / "notebooks" / "{name}.ipynb").is_file()), None)
if root is None:
    if "/OWNER/" in REPOSITORY:
        raise RuntimeError(
            "This notebook was not told where the project is published. Put that address into REPOSITORY, in "
            "this cell, or open the notebook in a checkout of the project, where nothing has to be fetched."
        )
    root = Path("hf_align")
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, str(root)], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{{root}}[demo]"]
    subprocess.run(install, check=True)
os.chdir(root)
# This interpreter started before the package was there.
sys.path[:0] = [str(Path.cwd()), str(Path("scripts").resolve())]
# What commands say goes where their results go.
logging.basicConfig(stream=sys.stdout, format="%(message)s")"""


def repository() -> str:
    """Where the project is published, from setup.cfg.

    Raises ValueError for an address that is not on GitHub, from which alone Colab opens notebooks by a link.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    address = config["metadata"].get("url", UNKNOWN).rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"setup.cfg: url: found {address!r}, expected https://github.com/ACCOUNT/hf_align")
    return address


def read_cells(source: str) -> list[tuple[str, str]]:
    """(``code`` or ``markdown``, text) of each cell of a source in the percent format.

    Raises ValueError for lines before the first cell and for text that is no comment.
    """
    cells: list[tuple[str, list[str]]] = []
    for number, line in enumerate(source.splitlines(), start=1):
        if line.rstrip() in (CELL, TEXT):
            cells.append(("markdown" if line.rstrip() == TEXT else "code", []))
        elif not cells:
            if line.strip():
                raise ValueError(f"line {number}: expected {CELL!r} or {TEXT!r}, found {line!r}")
        elif cells[-1][0] == "code":
            cells[-1][1].append(line)
        elif line.rstrip() == "#" or not line.strip():
            cells[-1][1].append("")
        elif line.startswith("# "):
            cells[-1][1].append(line[2:])
        else:
            raise ValueError(f"line {number}: expected a comment in a text cell, found {line!r}")
    return [(kind, "\n".join(lines).strip("\n")) for kind, lines in cells]


def notebook(name: str, source: str, published: str) -> dict[str, Any]:
    """The notebook of a source, as nbformat 4.5 has it."""
    cells = read_cells(source)
    if not cells or cells[0][0] != "markdown" or not cells[0][1].startswith("# "):
        raise ValueError(f"{name}: the first cell has to be text that begins with a title")
    title, _, rest = cells[0][1].partition("\n")
    path = published.removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{name}.ipynb"
    opening = f"{title}\n\n{BADGE.format(link=link)}\n{rest}"
    comment = "  # OWNER: the account that publishes the project" if published == UNKNOWN else ""
    install = INSTALL.format(repository=published, name=name, comment=comment)
    everything = [("markdown", opening), ("code", install), *cells[1:]]
    return {
        "cells": [_cell(name, number, *each) for number, each in enumerate(everything)],
        "metadata": {
            "colab": {"provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(name: str, number: int, kind: str, text: str) -> dict[str, Any]:
    empty = {"execution_count": None, "outputs": []} if kind == "code" else {}
    cell_id = f"{name.replace('_', '-')}-{number:02d}"
    return {"cell_type": kind, "id": cell_id, "metadata": {}, **empty, "source": text.splitlines(True)}


def encode(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def sources() -> list[Path]:
    return sorted(NOTEBOOKS.glob("[0-9]*.py"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say which notebooks are stale")
    check = parser.parse_args(argv).check
    published = repository()
    stale = []
    for source in sources():
        target = source.with_suffix(".ipynb")
        text = encode(notebook(source.stem, source.read_text(encoding="utf-8"), published))
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(target.relative_to(ROOT))
        if not check:
            target.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'not what its source says; run scripts/build_notebooks.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
