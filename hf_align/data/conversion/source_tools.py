"""Tools that a recipe gives all rows of a source: a list in the recipe, or the JSON file that holds one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.data.conversion.turn_fields import tools_of
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig


def tools_of_source(dataset: DatasetConfig) -> list[Any]:
    """The tools in the form that chat templates read; none where the recipe gives none.

    Errors: ``UserError`` where the file cannot be read, or a tool has no name.
    """
    given = dataset.tools
    if given is None:
        return []
    place = f"{dataset.path}: tools"
    if isinstance(given, str):
        path = Path(os.path.expanduser(given))
        place, given = f"{place}: {path}", _read(path, f"{place}: {path}")
    if not isinstance(given, list | dict):
        raise UserError(f"{place}: expected a list of tools, each an object with a name and parameters.")
    try:
        tools = tools_of(given)
    except MalformedRow as problem:
        raise UserError(f"{place}: {problem}.") from None
    if not tools:
        raise UserError(f"{place}: found no tool; name some, or leave the key out.")
    for number, tool in enumerate(tools, start=1):
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(
                f"{place}: tool {number} has no name; expected {{name: …, description: …, parameters: …}}, "
                "or that under the key function."
            )
    return tools


def _read(path: Path, place: str) -> Any:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
        raise UserError(f"{place}: no such file.{did_you_mean(path.name, names)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not valid UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror or error}.") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: this is not valid JSON: {error}.") from None
