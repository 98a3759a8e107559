"""Files that are run as scripts (scripts/, data/, a recipe's reward), as modules with parts to test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

from helpers.documentation import ROOT

SCRIPTS = ROOT / "scripts"
DATA = ROOT / "data"


def load_script(path: Path) -> ModuleType:
    """The module in ``path``, which imports from its own folder first, as Python does for a script."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses, and scripts that need one another, look a module up by its name.
    sys.modules[path.stem] = module
    places = [str(path.parent), *sys.path]
    with mock.patch.object(sys, "path", places), mock.patch.object(sys, "dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module
