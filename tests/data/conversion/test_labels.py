"""Labels of texts: one name for what is one class."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.data.conversion.labels import read_label
from hf_align.data.reading.raw import MalformedRow


@pytest.mark.parametrize(
    ("value", "name"),
    [("neg", "neg"), (" neg\t", "neg"), (1, "1"), (1.0, "1"), (-1, "-1"), (True, "true"), ("-1", "-1")],
)
def test_a_class_has_one_name(value: Any, name: str) -> None:
    assert read_label(value) == name


@pytest.mark.parametrize("value", [0.5, float("nan"), None, ["a"], " "])
def test_what_is_no_label(value: Any) -> None:
    with pytest.raises(MalformedRow):
        read_label(value)
