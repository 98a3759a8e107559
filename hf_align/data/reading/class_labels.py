"""The names that a data set gives to the numbers in its columns: ClassLabel features of the datasets library.

They stand in the metadata of Parquet and Arrow files, in the card of a folder (``dataset_info``), and in what
the library loads. What is made of them is up to the formats of labelled rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.data.reading.opening import kind_of
from hf_align.data.reading.sources import is_python_docs, load_from_hub, local_files
from hf_align.data.reading.splits import card_features
from hf_align.errors import UserError

if TYPE_CHECKING:
    from hf_align.config import DatasetConfig

ClassNames = dict[str, tuple[str, ...]]
_METADATA = b"huggingface"


def class_names(dataset: DatasetConfig, *, streaming: bool = False) -> ClassNames:
    """The names of the classes of each column that has them, in the order of their numbers.

    Errors: ``UserError`` where the source cannot be opened.
    """
    if is_python_docs(dataset):
        return {}
    files = local_files(dataset)
    if files is None:
        return _of_features(load_from_hub(dataset, streaming=streaming).features)
    folder = Path(dataset.path).expanduser()
    if folder.is_dir() and (found := _of_features(card_features(folder, dataset.name))):
        return found
    return _of_file(files[0])


def _of_features(features: Mapping[str, Any] | None) -> ClassNames:
    return {column: tuple(one.names) for column, one in (features or {}).items() if hasattr(one, "names")}


def _of_file(file: Path) -> ClassNames:
    kind = kind_of(file)
    if kind not in (".parquet", ".arrow"):
        return {}
    import pyarrow
    import pyarrow.parquet

    try:
        if kind == ".parquet":
            schema = pyarrow.parquet.read_schema(file)
        else:
            with pyarrow.memory_map(str(file)) as opened:
                schema = _arrow_schema(opened)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file}: not readable: {str(error).strip().splitlines()[0]}") from error
    written = (schema.metadata or {}).get(_METADATA)
    try:
        features = json.loads(written)["info"]["features"] if written else {}
        return {
            column: tuple(map(str, one["names"]))
            for column, one in features.items()
            if isinstance(one, dict) and one.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: the features in its metadata cannot be read: {error!r}") from error


def _arrow_schema(opened: Any) -> Any:
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(opened).schema
    except pyarrow.ArrowInvalid:
        opened.seek(0)
        return pyarrow.ipc.open_file(opened).schema
