"""Importing the package, --help and mistakes in a recipe load no heavy library; aliases are real modules."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_align.public_names import ALIASES, real_name
from hf_align.stages import COMMANDS, STAGES, load

PACKAGE = Path(__file__).parent.parent / "hf_align"
ALL_HELP = """
import hf_align.__main__ as m
for command in m.find_commands():
    try:
        m.main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
HEAVY = ["torch", "numpy", "transformers", "datasets", "accelerate", "peft", "trl", "matplotlib"]


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


@pytest.mark.parametrize("alias", [*ALIASES, "hf_align.data.collators.mlm"])
def test_an_alias_is_the_real_module(alias):
    module, real = importlib.import_module(alias), importlib.import_module(real_name(alias))
    assert module is real and module.__spec__.name == module.__name__ == real_name(alias)


def test_public_functions_are_found_under_their_names():
    from hf_align.data.collators.span_corruption import span_corruption_lengths
    from hf_align.evaluation.best_of_n import best_of_n_kl_bound, expected_best_of_n

    # Raffel et al. 2020: inputs of 512 tokens come from 568, with 114 target tokens.
    assert span_corruption_lengths(512) == (568, 114)
    assert expected_best_of_n([1.0, 3.0], 2) == 3.0 and best_of_n_kl_bound(1) == 0.0


def test_every_command_can_be_imported_by_its_public_name():
    for name in COMMANDS:
        assert callable(importlib.import_module(f"hf_align.commands.{name.replace('-', '_')}").main)


@pytest.mark.parametrize("name", STAGES)
def test_what_the_table_of_stages_names_exists(name):
    stage = STAGES[name]
    assert load(stage.recipe).keys() and callable(load(stage.command).main)
    assert all(load(part) is not None for part in (stage.report, stage.card) if part)
    assert (stage.report is None) == (stage.part is None)
