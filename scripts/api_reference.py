"""Write the reference of the Python interface as HTML, from the docstrings, with pdoc.

Every module gets a page, and every function and class stands on that of the module which defines it. What
this leaves out: the source code, names that begin with _, and modules whose optional package is missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import warnings
from pathlib import Path

import pdoc

import hf_align

DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "api"
OPTIONAL = {"hf_align.evaluation.lm_eval.bridge": "lm_eval"}
"""Modules that import a package of an extra at once, and that package."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write")
    output: Path = parser.parse_args().output
    for found in pkgutil.walk_packages(hf_align.__path__, "hf_align.", onerror=lambda name: None):
        if found.ispkg:
            # A package that lists its interface in __all__ would hide its modules from pdoc.
            vars(importlib.import_module(found.name)).pop("__all__", None)
    # A dataclass's constructor has the annotations of the class it inherits from as texts. pdoc looks for the
    # names in them in the wrong module, and then shows them as they are written.
    warnings.filterwarnings("ignore", message="Error parsing type annotation")
    left_out = [module for module, package in OPTIONAL.items() if importlib.util.find_spec(package) is None]
    for module in left_out:
        warnings.filterwarnings("ignore", message=f"Couldn't import {module}")
        print(f"left out, since {OPTIONAL[module]} is not installed: {module}")
    pdoc.render.configure(docformat="restructuredtext", show_source=False)
    pdoc.pdoc("hf_align", *(f"!{module}" for module in left_out), output_directory=output)
    print(output / "index.html")


if __name__ == "__main__":
    main()
