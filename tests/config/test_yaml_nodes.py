"""From YAML to values: the type of an option decides; what versions of YAML read differently is refused."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.config.fields import Option, Spec
from hf_align.config.yaml_nodes import Source, compose, is_text, mapping_items, read_option
from hf_align.errors import UserError


def read(text: str, hint: Any) -> Any:
    node = compose(text, "r.yaml")
    assert node is not None
    return read_option(node, Spec("key", hint, Option("…"), None, True), Source("r.yaml"), "r.yaml:1: key")


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("1e-4", float, 1e-4),
        ("1e-4", str, "1e-4"),
        ("no", bool, False),
        ("no", Literal["no", "steps"], "no"),
        ("1_000", int, 1000),
        ("'1'", str, "1"),
        ("~", int | None, None),
        ("[1, 2]", list[float], [1.0, 2.0]),
        ("{a: 1e3}", dict[str, float], {"a": 1000.0}),
    ],
)
def test_the_type_decides(text: str, hint: Any, value: Any) -> None:
    found = read(text, hint)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("010", int, "found the number '010'"),
        ("1:30", int, "found the number '1:30'"),
        ("0x10", int, "found the number '0x10'"),
        ("2024-01-01", str, "found the date '2024-01-01'"),
        ("1e-400", float, "expected a number"),
        ("[1]", int, "found a list"),
        ("{a: 1}", int, "found a mapping"),
        ("'yes'", bool, "found the text 'yes'"),
    ],
)
def test_what_is_not_guessed(text: str, hint: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text, hint)
    assert str(caught.value).startswith("r.yaml:1: key: ") and message in str(caught.value)


@given(st.integers(-(2**53), 2**53))
@settings(max_examples=40, deadline=None)
def test_numbers_go_there_and_back(number: int) -> None:
    assert read(str(number), int) == number
    assert read(repr(float(number)), float) == float(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "r.yaml:1: this is not valid YAML"),
        ("a: 1\n\tb: 2", "r.yaml:2: this is not valid YAML: found a tab"),
        ("a: 1\nb: \x01", "r.yaml:2: this is not valid YAML: the character"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_broken_documents(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(text, "r.yaml")
    assert message in str(caught.value)
    assert compose("# nothing\n", "r.yaml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"r.yaml:2: a: this key is given twice \(first in line 1\)"),
        ("1: 2", "found '1' as a key, expected a name"),
        ("? [a]\n: 2", "found 'a list or mapping' as a key"),
        ("x: &x {a: 1}\n<<: *x", "merge keys"),
    ],
)
def test_keys(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(mapping_items(yaml.compose(text, Loader=yaml.SafeLoader), Source("r.yaml")))


def test_text_options_are_told_from_others() -> None:
    assert is_text(str) and is_text(str | None) and is_text(list[str]) and is_text(Literal["a"] | None)
    assert not is_text(int) and not is_text(str | int) and not is_text(dict[str, str])


def test_aliases_of_aliases_are_counted_before_anything_follows_them() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(UserError, match=r"r.yaml: with its aliases .* more than 100,000"):
        compose("\n".join(lines), "r.yaml")
    assert compose("a: &a [1, 2]\nb: [*a, *a]", "r.yaml") is not None
    assert compose("a: &a [*a]", "r.yaml") is not None
