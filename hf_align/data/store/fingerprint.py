"""What the prepared rows of a source depend on, as one hash: the key under which ``cache`` keeps them.

Data count by content, so that a copied or renamed file is the same and an edited one is not, whatever its
time stamp says. Weights, seeds, splits and limits on shares of bad rows come after preparation and do not
count.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config.fields import keys_that_change, specs_of
from hf_align.config.local_paths import is_address
from hf_align.data.conversion.source_tools import tools_of_source
from hf_align.data.encoding import RowEncoder
from hf_align.data.reading.opening import ending
from hf_align.data.reading.sources import hub_files, is_python_docs, local_files
from hf_align.data.reading.splits import CARD
from hf_align.errors import UserError
from hf_align.runs.code_digest import digest_of_modules

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import DataConfig, DatasetConfig

_PACKAGES = ("tokenizers", "transformers", "jinja2", "numpy", "pyarrow", "datasets")

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Files:
    """The files of a source. ``prefix``: what the place of every row begins with. ``names``: what tells the
    files apart within the source: paths below a folder, or the ending of a single file."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    prefix: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths)

    def stamps(self) -> list[Stamp]:
        """What changes when a file is written: size, time of change, and the file's number."""
        stats = [path.stat() for path in self.paths]
        return [(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in stats]


def files_of(dataset: DatasetConfig) -> Files:
    """The files of a source, local ones or those that the hub's client keeps.

    Errors: ``UserError`` where there is no such source.
    """
    paths = local_files(dataset)
    if paths is None:
        stored = hub_files(dataset)
        return Files(tuple(stored), tuple(path.name for path in stored), dataset.path)
    if is_python_docs(dataset):
        return Files(tuple(paths), tuple(path.name for path in paths), dataset.path)
    root = Path(os.path.expanduser(dataset.path))
    if is_address(dataset.path) or (len(paths) == 1 and not root.is_dir()):
        return Files((paths[0],), (ending(paths[0]),), str(paths[0]))
    if root.is_dir():
        # A card says which files there are, and how classes are called.
        paths += [card for card in [root / CARD] if card.is_file()]
    else:  # a pattern
        root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root) for path in paths]
    # Not str(root) with a separator: the places of files in "." begin with nothing.
    prefix = str(paths[0])[: -len(str(names[0]))]
    return Files(tuple(paths), tuple(name.as_posix() for name in names), prefix)


def source_key(
    dataset: DatasetConfig,
    data: DataConfig,
    encoder: RowEncoder,
    files: Files,
    *,
    keep_examples: bool,
    asked: bool = False,
) -> str | None:
    """The key of a source's prepared rows, or None where nobody can tell whether they would be the same.

    That is so of a tokenizer that is a program of its own (a slow one), or whose class has code that is
    nowhere to be read. Reads all files of the source; raises ``UserError`` where one is unreadable.
    """
    tokenizer = encoder.tokenizer
    classes = [_hash_of_class(kind) for kind in type(tokenizer).__mro__[:-1]]
    if None in classes or not tokenizer.is_fast:
        return None
    parts = {
        "files": [[name, _hash_of_file(path)] for name, path in zip(files.names, files.paths, strict=True)],
        "source": _results_of(dataset),
        "data": _results_of(data),
        "tools": tools_of_source(dataset),  # by content, as the rows are
        "keep_examples": keep_examples,
        **({"asked": True} if asked else {}),
        "encoder": encoder.identity(),
        "tokenizer": [tokenizer_state(tokenizer), classes],
        "code": _code(type(encoder).__module__),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _results_of(group: DatasetConfig | DataConfig) -> dict[str, Any]:
    """What decides how a row comes out; which rows there are, and in which proportions, comes later."""
    keys = keys_that_change(specs_of(type(group)), "result")
    return {key: getattr(group, key) for key in keys if key != "tools"}


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that decides how a fast tokenizer and its chat template turn a conversation into ids and masks."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set anew for each call.
    del backend["truncation"], backend["padding"]
    template = tokenizer.chat_template
    state = {
        "backend": backend,
        "template": template,
        "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "special_ids": sorted(tokenizer.all_special_ids),
        "split_special_tokens": getattr(tokenizer, "split_special_tokens", False),
    }
    if "strftime_now" in str(template):
        # The template writes the date, so its rows are those of one day.
        state["date"] = datetime.date.today().isoformat()
    return state


def _hash_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _hash_of_class(kind: type) -> list[str] | None:
    """The name of a class, with a hash of its module unless a package's version stands for it."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] == "transformers":
        return [name]
    try:
        return [name, _hash_of_file(Path(inspect.getfile(kind)))]
    except (TypeError, UserError):  # defined in a notebook, for example
        return None


@functools.cache
def _code(encoder: str) -> dict[str, str]:
    """Versions of what takes part, and a hash of this package's own part in it; ``encoder``: its module."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = digest_of_modules("hf_align.data.store.datasets", encoder)
    return {**versions, "python": platform.python_version(), "hf_align": own}
