"""The layers: a file imports its own layer or lower ones; configuration loads no heavy library."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hf_align"
LAYERS = {
    "types": 0,
    "errors": 0,
    "columns": 0,
    "losses": 1,
    "config": 1,
    "tokenization": 2,
    "data": 2,
    "modeling": 3,
    "adapters": 3,
    "objectives": 4,
    "training": 5,
    "evaluation": 5,
    "reporting": 5,
    "commands": 6,
    "__main__": 7,
}
ALL_HELP = """
import hf_align.__main__ as m
for command in m.find_commands():
    try:
        m.main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
HEAVY = ["torch", "numpy", "transformers", "datasets", "accelerate", "peft", "trl", "matplotlib"]


def _imported_parts(source: str, module: str) -> Iterator[str]:
    """The first name below ``hf_align`` of every import in ``source``, functions included."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base]).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "hf_align" else [base]
        for name in names:
            parts = name.split(".")
            if parts[0] == "hf_align" and len(parts) > 1:
                yield parts[1]


def _violations(source: str, module: str) -> list[str]:
    own = module.split(".")[1]
    return [part for part in _imported_parts(source, module) if LAYERS.get(part, 0) > LAYERS[own]]


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(("hf_align", *path.relative_to(PACKAGE).with_suffix("").parts)), path


def test_every_part_has_a_layer():
    parts = {module.split(".")[1] for module, _ in _modules()} - {"__init__"}
    assert parts <= set(LAYERS)


@pytest.mark.parametrize(("module", "path"), list(_modules()), ids=lambda value: str(value).split("/")[-1])
def test_imports_obey_the_layers(module, path):
    source = path.read_text(encoding="utf-8")
    if module == "hf_align.__init__":
        assert list(_imported_parts(source, module)) == []
    else:
        assert _violations(source, module) == []


def test_the_check_finds_violations():
    module = "hf_align.data.chat"
    for source in (
        "import hf_align.modeling.loading",
        "from hf_align.training import trainer",
        "from hf_align import commands",
        "from ..modeling import loading",
        "def f():\n    from hf_align.modeling.loading import x",
    ):
        assert len(_violations(source, module)) == 1, source
    assert _violations("from hf_align.config import DataConfig\nfrom .mix import x", module) == []


def _loaded_after(code: str) -> list[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import hf_align",
        "import hf_align.config",
        "import hf_align.__main__ as m; m.main(['--help'])",
        "import hf_align.__main__ as m; assert m.main(['sfft']) == 2",
        "import hf_align.__main__ as m; assert m.main(['sft', '--learning_rat', '1']) == 2",
        ALL_HELP,
    ],
)
def test_light_imports(code):
    assert _loaded_after(code) == []


def test_the_check_of_light_imports_sees_heavy_ones():
    assert _loaded_after("import numpy") == ["numpy"]
