"""What of this package and its libraries takes part in computing something that is kept for other runs."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import hf_align

_PACKAGES = ("torch", "transformers", "bitsandbytes", "numpy")


SHOWN = frozenset(("report", "report_objective", "plots", "card", "view", "page", "text"))
"""Names of files that change no result, in the rooms of stages."""


@functools.cache
def code_digest(*patterns: str) -> dict[str, str]:
    """Versions of the libraries, and a hash of the files of this package that match ``patterns``.

    Files that only show results (reports, plots, model cards) are left out.

    Raises ValueError for a pattern that matches none: code that has moved would no longer count.
    """
    package = Path(hf_align.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for pattern in patterns:
        found = [path for path in sorted(package.glob(pattern)) if path.stem not in SHOWN]
        if not found:
            raise ValueError(f"no file of this package matches {pattern!r}")
        for path in found:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package).as_posix()} {len(content)} ".encode())
            digest.update(content)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {**versions, "hf_align": digest.hexdigest()}


def digest_of_modules(*modules: str, package: Path = Path(hf_align.__file__).parent) -> str:
    """A hash of the code of ``modules``, of all that they import of this package, and so on.

    Comments, docstrings and layout do not count, nor do imports for type checkers. ``package``: the folder of
    this package, or of a copy of it.

    Raises ValueError for a module that is none of this package.
    """
    code: dict[str, str] = {}
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if (path := _file(name, package)) is None:
            raise ValueError(f"{name} is no module of this package")
        tree = _WithoutText().visit(ast.parse(path.read_bytes()))
        code[name] = ast.dump(tree)
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting += [one for one in found if one not in code and one not in waiting and _file(one, package)]
    return hashlib.blake2b(repr(sorted(code.items())).encode(), digest_size=16).hexdigest()


class _WithoutText(ast.NodeTransformer):
    """Takes out what changes no result: imports for type checkers, and texts that stand alone."""

    def visit_If(self, node: ast.If) -> Any:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if checking else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)


def _file(name: str, package: Path) -> Path | None:
    path = package.parent.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if package in file.parents and file.is_file()), None)
