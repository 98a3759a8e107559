"""Module names that users rely on, and the modules that they stand for.

``hf_align.commands.NAME`` is every command, wherever its code lives. Importing an older name gives the real
module itself, so that whatever is read or set there is read or set in it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from hf_align.stages import COMMANDS

ALIASES = {
    **{
        f"hf_align.commands.{name.replace('-', '_')}": module
        for name, module in COMMANDS.items()
        if not module.startswith("hf_align.commands.")
    },
    "hf_align.data.collators": "hf_align.pretraining.collators",
    "hf_align.evaluation.best_of_n": "hf_align.statistics.best_of_n",
}
"""Name -> module; what lies below a package goes along."""


def real_name(name: str) -> str | None:
    """The module that ``name`` stands for, or None for a name that is no alias."""
    parent, _, last = name.rpartition(".")
    if name in ALIASES:
        return ALIASES[name]
    return f"{ALIASES[parent]}.{last}" if parent in ALIASES else None


class AliasFinder(MetaPathFinder, Loader):
    """Finds the real module where an alias is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if real_name(name) is not None else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(real_name(spec.name)))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run; only its own spec, which ``import`` has just replaced, is put back."""
        alias = module.__spec__
        if alias is not None and isinstance(alias.loader, AliasFinder):
            module.__spec__ = alias.loader_state


def install() -> None:
    """Let ``import`` find the aliases."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        # First, since an empty folder that an older checkout left would pass for a package.
        sys.meta_path.insert(0, AliasFinder())
