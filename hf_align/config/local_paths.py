"""Whether a path leads to something here, or may be a name elsewhere; needs no heavy library.

What stands in the files is the business of those who read them.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from hf_align.errors import UserError, did_you_mean

ROW_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
"""The endings of files with rows; what reads each is in ``data.reading.sources``."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_source(name: str) -> None:
    """Raise ``UserError`` where the path of a data set is that of a file or folder which does not exist."""
    path = Path(os.path.expanduser(name))
    if path.exists() or is_address(name) or may_be_hub_id(name):
        return
    if not glob.has_magic(str(path)):
        raise _missing(path)
    if not any(os.path.isfile(found) for found in glob.iglob(str(path), recursive=True)):
        raise UserError(f"{path}: no file matches this pattern, looked up from {Path.cwd()}.")


def is_address(path: str) -> bool:
    """Whether a path is an address such as ``s3://bucket/x.jsonl`` or ``hf://datasets/owner/name/x.parquet``."""
    return "://" in path


def may_be_hub_id(name: str) -> bool:
    """``owner/name`` or ``name``, without the extension of a file and with no folder of that name here."""
    known = any(ending.lower() in ROW_FILES for ending in Path(name).suffixes[-2:])
    if known or not _HUB_ID.fullmatch(name) or set(name) <= set("./"):
        return False
    return not ("/" in name and Path(name).parent.is_dir())


def _missing(path: Path) -> UserError:
    folder = path.parent
    if not folder.is_dir():
        return UserError(f"{path}: no such file or folder; the folder {folder} does not exist either.")
    nearest = did_you_mean(path.name, (entry.name for entry in folder.iterdir()))
    return UserError(f"{path}: no such file or folder.{nearest}")


def check_local(key: str, name: str) -> None:
    """A name that can only be a folder must be there; anything else may be a hub id."""
    path = Path(name)
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    # models/ and runs/ are where this project writes: on a fresh checkout they are not there themselves.
    looks_local |= path.parent.name in ("models", "runs")
    missing = not path.exists() and (looks_local or path.parent.is_dir())
    if missing and ("/" in name or (looks_local and "\\" in name)):
        raise UserError(f"{key}: the folder '{name}' does not exist.{_how_to_make(path)}")


def _how_to_make(path: Path) -> str:
    """The command that makes a folder which a recipe of this project writes."""
    if path.parent.name == "models":
        return " `make model` builds the default model."
    stage, _, name = path.name.partition("_")
    recipe = Path("recipes", stage, f"{name or 'quickstart'}.yaml")
    made = path.parent.name == "runs" and recipe.is_file()
    return f" `make {stage} RECIPE={recipe}` makes it." if made else ""
