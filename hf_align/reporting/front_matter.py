"""The head of a model card: YAML that the Hugging Face hub reads. What it says is each card's own matter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")


def front_matter(values: Mapping[str, Any]) -> str:
    """``values`` between their two lines, with a note where ``base_model`` is a folder of this machine."""
    import yaml

    local = "base_model" in values and is_local(values["base_model"])
    note = "# A local folder: put its hub id here before you publish this card.\n" if local else ""
    return f"---\n{note}{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}---"


def is_local(name: str) -> bool:
    """Whether a name is a folder here rather than a name on the hub."""
    return not _HUB_ID.fullmatch(name) or Path(name).is_dir()
