"""The reference of the Python interface: everything public says what it does, and pdoc makes pages of it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.documentation import ROOT

ROOMS = sorted(folder.name for folder in (ROOT / "hf_align").iterdir() if (folder / "__init__.py").is_file())


def public_definitions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """(name, node) of the module, and of its functions and classes whose names do not begin with _."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield "the module", tree
    for node in tree.body:
        defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if defines and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_has_a_docstring(room: str) -> None:
    for path in sorted((ROOT / "hf_align" / room).rglob("*.py")):
        missing = [name for name, node in public_definitions(path) if not ast.get_docstring(node)]
        assert not missing, f"{path.relative_to(ROOT)}: {', '.join(missing)}: a docstring is missing"


def test_a_missing_docstring_is_found(tmp_path: Path) -> None:
    source = (
        '"""A module."""\n\ndef f():\n    pass\n\nclass _Own:\n    pass\n\nclass C:\n    """Has one."""\n'
    )
    path = tmp_path / "m.py"
    path.write_text(source)
    assert [name for name, node in public_definitions(path) if not ast.get_docstring(node)] == ["f"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason="pdoc is not installed")
def test_the_reference_is_written_without_a_warning(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "default", "scripts/api_reference.py", "--output", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    pdocs = [line for line in result.stderr.splitlines() if "pdoc" in line and "Warning" in line]
    assert not pdocs, pdocs
    pages = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    for path in (ROOT / "hf_align").rglob("[!_]*.py"):
        page = str(path.relative_to(ROOT).with_suffix(".html"))
        assert page in pages or f".{path.stem}" in result.stdout, page
    losses = (tmp_path / "hf_align" / "losses" / "preference.html").read_text(encoding="utf-8")
    assert 'id="dpo_loss"' in losses and "conservative DPO" in losses
    # Roles such as :func:`name` have become links or names.
    loader = (tmp_path / "hf_align" / "sft" / "recipe.html").read_text(encoding="utf-8")
    assert "load_config" in loader and not re.search(r":(func|class|meth|mod):", loader)
