"""Splits and configurations of a local folder, as the hub's data sets have them.

A folder has splits where its README.md says so (``configs:``), or where the names of its files or folders do
(``train-00000.parquet``, ``test/``), as the datasets library reads them. The files are read by this project.
So are folders that ``save_to_disk`` of that library wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig

DEFAULT = "train"
CARD = "README.md"
"""The card of a data set, which may list configurations and features."""

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.S)


def files_of_split(folder: Path, dataset: DatasetConfig) -> list[Path] | None:
    """The files of the split (and the configuration) that the recipe names, in order; None for a folder
    without splits.

    Raises UserError for a split or a configuration that is not there, naming those that are.
    """
    configured = _is_configured(folder)
    if not configured and dataset.name is not None:
        raise UserError(
            f"{folder}: found the name '{dataset.name}', but the folder has no configurations (its README.md "
            "names none)."
        )
    splits = _splits(folder, dataset.name)
    if len(splits) < 2 and not configured:
        # Nothing can be mixed up; a split that is called otherwise is a slip.
        if dataset.split in (DEFAULT, *splits):
            return None
        _refuse(folder, dataset.split, splits)
    if dataset.split in splits:
        return splits[dataset.split]
    if len(splits) == 1 and dataset.split == DEFAULT:
        return next(iter(splits.values()))
    _refuse(folder, dataset.split, splits)
    return None


def _refuse(folder: Path, split: str, splits: dict[str, list[Path]]) -> None:
    listed = ", ".join(splits) or "none"
    raise UserError(
        f"{folder}: the folder has no split '{split}'; its splits are: {listed}.{did_you_mean(split, splits)}"
    )


def _is_configured(folder: Path) -> bool:
    """Whether the card names the files of configurations."""
    return bool(_of_card(folder, "configs"))


def _of_card(folder: Path, key: str) -> Any:
    """What the front matter of the folder's card has under a key; None without one."""
    card = folder / CARD
    if not card.is_file():
        return None
    import yaml

    try:
        block = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
        found = yaml.safe_load(block[1]) if block else None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{card}: the YAML at its beginning cannot be read: {_sentence(error)}") from error
    return found.get(key) if isinstance(found, Mapping) else None


def card_features(folder: Path, name: str | None) -> Mapping[str, Any] | None:
    """What the folder's card says of the columns, as features of the datasets library; None where it says
    nothing.

    Raises UserError where the card does not fit the folder.
    """
    if not _of_card(folder, "dataset_info"):
        return None
    import datasets

    try:
        return datasets.load_dataset_builder(str(folder), name).info.features
    except Exception as error:  # the library raises many types; all mean that the card does not fit
        raise UserError(f"{folder / CARD}: {_sentence(error)}") from error


def _splits(folder: Path, name: str | None) -> dict[str, list[Path]]:
    """The local files of each split."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(folder), name)
    except ValueError as error:
        if name is None and "Config name is missing" not in str(error):
            return {}  # no kind of file that the library knows
        raise UserError(f"{folder}: {_sentence(error)}") from error
    except (datasets.exceptions.DatasetsError, OSError):
        return {}
    found = builder.config.data_files or {}
    splits = {
        str(split): sorted(path for path in map(Path, files) if path.is_file())
        for split, files in found.items()
    }
    return {split: files for split, files in splits.items() if files}


def _sentence(error: Exception) -> str:
    """The library's message in one line."""
    return " ".join(str(error).split())


def saved_files(folder: Path, dataset: DatasetConfig) -> list[Path] | None:
    """The Arrow files of what ``save_to_disk`` wrote, in its order; None for any other folder.

    Raises UserError for a split that is not there, and for a selection of rows or columns that was not
    written out.
    """
    if (folder / "dataset_dict.json").exists():
        splits = sorted(path.name for path in folder.iterdir() if (path / "dataset_info.json").exists())
        if dataset.split not in splits:
            raise UserError(
                f"{folder}: the folder has no split '{dataset.split}'; its splits are: {', '.join(splits)}."
                f"{did_you_mean(dataset.split, splits)}"
            )
        folder = folder / dataset.split
    elif not (folder / "dataset_info.json").exists():
        return None
    try:
        state = json.loads((folder / "state.json").read_bytes())
        files = [folder / str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: written by `save_to_disk` of the datasets library, but its state.json cannot be read "
            f"({type(error).__name__}); save it again."
        ) from error
    if state.get("_indices_files") or state.get("_format_columns"):
        raise UserError(
            f"{folder}: the saved data set is a selection of rows or columns; save it again after "
            "`flatten_indices()`, or export it with `to_parquet`."
        )
    if dataset.split not in (DEFAULT, folder.name, state.get("_split")):
        raise UserError(
            f"{folder}: found the split '{dataset.split}', but the folder holds one split "
            f"({state.get('_split') or 'without a name'}); remove split."
        )
    return files
