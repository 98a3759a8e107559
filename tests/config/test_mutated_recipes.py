"""Property tests: whatever stands in a recipe, the result is what was written or a ``UserError``."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_align.config import load_recipe
from hf_align.config.fields import entry_type
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig, parse_sft

KEYS = list(SftConfig.keys())

VALID: dict[str, Any] = {
    "model_name_or_path": "m",
    "datasets": [{"path": "a.jsonl", "weight": 2.0, "columns": {"prompt": "q"}}, "b.csv"],
    "eval_datasets": ["c.jsonl"],
    "adapter": "lora",
    "lora_r": 8,
    "lora_target_modules": ["q_proj"],
    "load_in_4bit": True,
    "learning_rate": 0.001,
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 1.5},
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 10,
    "load_best_model_at_end": True,
    "early_stopping_patience": 2,
    "report_to": ["tensorboard"],
    "streaming": False,
    "max_steps": 20,
}

SMALL: dict[str, Any] = {"model_name_or_path": "m", "datasets": "a", "adapter": "lora"}

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.floats(0, 2),
    st.floats(),
    TEXT,
    st.dates(),
    st.sampled_from(["auto", "no", "steps", "epoch", "none", "lora", "float16", "cosine", "1e-4", "yes"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(TEXT, st.sampled_from(["path", "weight", "columns"])), inner, max_size=3),
    ),
    max_leaves=6,
)

COMMON = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def _load(path: Path, content: str | bytes) -> SftConfig | None:
    """The configuration, or None after a ``UserError`` that names the file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    try:
        return load_recipe(SftConfig, path)
    except UserError as error:
        assert str(path) in str(error)
        return None


def _as_resolved(key: str, written: Any) -> Any:
    """What a written value must come out as: itself, but for the documented short forms."""
    if key in ("datasets", "eval_datasets"):
        entries = written if isinstance(written, list) else [written]
        return [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    if key in ("report_to", "modules_to_save", "additional_special_tokens") and isinstance(written, str):
        return [written]
    if written is False and key.endswith("_strategy"):
        return "no"  # the choice `no`, which YAML 1.1 reads as false
    return written


def _same(found: Any, written: Any) -> bool:
    if isinstance(written, dict):
        return all(key in found and _same(found[key], value) for key, value in written.items())
    if isinstance(written, list):
        return len(found) == len(written) and all(map(_same, found, written))
    if isinstance(written, str) and isinstance(found, float):
        return float(written) == found  # 1e-4, text to YAML 1.1
    return bool(found == written) and isinstance(found, bool) == isinstance(written, bool)


def test_the_starting_point_is_valid(path):
    assert _load(path, yaml.safe_dump(VALID)) is not None


def _assert_as_written(config: SftConfig | None, text: str) -> None:
    """What was accepted is what PyYAML reads in the text, key by key."""
    if config is None:
        return
    flat = config.to_flat()
    for key, value in yaml.safe_load(text.removeprefix("\ufeff")).items():
        assert _same(flat[key], _as_resolved(key, value)), key


def _fitting(key: str) -> st.SearchStrategy[tuple[str, Any]]:
    """A key with a value of its own type (limits aside) as often as with any value."""
    if entry_type(SftConfig.keys()[key].hint):
        return st.tuples(st.just(key), VALUES)
    return st.tuples(st.just(key), st.one_of(st.from_type(SftConfig.keys()[key].hint), VALUES))


@COMMON
@given(
    base=st.sampled_from([VALID, SMALL]),
    dropped=st.one_of(st.just(set()), st.sets(st.sampled_from(sorted(VALID)), max_size=2)),
    replaced=st.lists(st.sampled_from(KEYS).flatmap(_fitting), max_size=2),
    renamed=st.one_of(st.just({}), st.dictionaries(st.sampled_from(sorted(VALID)), TEXT, max_size=1)),
)
def test_mutated_recipes(path, base, dropped, replaced, renamed):
    recipe = {**base, **dict(replaced)}
    recipe = {renamed.get(key, key): value for key, value in recipe.items() if key not in dropped}
    text = yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False)
    config = _load(path, text)
    _assert_as_written(config, text)


@COMMON
@given(
    key=st.sampled_from(KEYS),
    text=st.one_of(
        TEXT,
        st.text(string.printable, max_size=12),
        st.from_regex(r"[-+]?[0-9_]{0,4}[.:]?[0-9]{0,3}([eE][-+]?[0-9]{1,3})?", fullmatch=True),
        st.text("&*<[]{}!|>%@`'\"\\#:-?, \t\nab01~.", max_size=16),
    ),
)
def test_raw_text_as_a_value(path, key, text):
    base = "".join(f"{name}: {value}\n" for name, value in SMALL.items() if name != key)
    _assert_as_written(_load(path, f"{base}{key}: {text}"), f"{base}{key}: {text}")


@COMMON
@given(
    data=st.data(),
    noise=st.one_of(TEXT, st.text("&*<[]{}!|>%'\"#:-?, \t\n", min_size=1, max_size=4)),
)
def test_broken_text(path, data, noise):
    text = yaml.safe_dump(VALID)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    text = text[:start] + noise + text[end:]
    _assert_as_written(_load(path, text), text)


@COMMON
@given(content=st.binary(max_size=200))
def test_random_bytes(path, content):
    config = _load(path, content)
    assert config is None or isinstance(config, SftConfig)


@COMMON
@given(
    arguments=st.lists(
        st.one_of(
            st.sampled_from([f"--{key}" for key in KEYS]),
            st.text(max_size=8),
            SCALARS.map(str),
            st.sampled_from(["--", "--=", "--config", "[", "{a: 1}", "[q_proj]", "&a [*a]"]),
        ),
        max_size=6,
    )
)
def test_random_arguments(arguments):
    arguments = [argument for argument in arguments if argument not in ("-h", "--help")]
    try:
        config = parse_sft(["--model_name_or_path=m", "--datasets=a", *arguments])
    except UserError:
        return
    flat = config.to_flat()
    assert all(flat[key] == value for key, value in config.overrides.items())
