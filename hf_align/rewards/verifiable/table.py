"""The verifiable rewards by name, and how their options in a recipe are read."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_align.config.choices.keywords import check_keywords

_FOLDER = "hf_align.rewards.verifiable"

VERIFIERS: dict[str, str] = {
    "exact_answer": "answers",
    "numeric": "answers",
    "multiple_choice": "answers",
    "json_schema": "forms",
    "format_tags": "forms",
    "length": "forms",
    "language": "forms",
    "code": "code",
}
"""Name of the function to the module of this folder that has it."""

# TRL's functions of the same meaning (trl.rewards).
ALIASES = {"accuracy_reward": "numeric", "think_format_reward": "format_tags"}

_ALIAS_OPTIONS: dict[str, dict[str, Any]] = {
    "accuracy_reward": {"column": "solution"},
    "think_format_reward": {"tags": ["think"], "rest": True},
}


def is_verifier(name: str) -> bool:
    """Whether a reward of that name comes with hf_align."""
    return name in VERIFIERS or name in ALIASES


def verifier(name: str, options: Mapping[str, Any]) -> tuple[Callable[..., Any], str]:
    """(the function with its options, a digest of both). Raises UserError for an option that it lacks, or of
    another type."""
    options = _ALIAS_OPTIONS.get(name, {}) | dict(options)
    own = ALIASES.get(name, name)
    module = importlib.import_module(f"{_FOLDER}.{VERIFIERS[own]}")
    function = getattr(module, own)
    check_keywords(function, options, f"reward_options: {name}")
    check = getattr(module, f"check_{own}", None)
    if check is not None:
        check(**options)
    source = Path(typing.cast(str, module.__file__)).read_bytes()
    digest = hashlib.blake2b(source + json.dumps(options, sort_keys=True).encode(), digest_size=16)
    with_rows = "rows" in inspect.signature(function).parameters

    # Columns of the data are given by name, and one may be called as an option is: only these three get
    # through.
    def score(prompts: Sequence[str], completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Any:
        return function(completions, *([rows] if with_rows else []), **options)

    return score, digest.hexdigest()
