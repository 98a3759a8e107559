"""The areas of the standard library: each module in one of them, and those of this Python in some."""

from __future__ import annotations

import sys

import pytest

from hf_align.data.reading.python_areas import _MODULES, AREAS, OTHER, REFERENCE, area_of


@pytest.mark.parametrize(
    ("module", "area"),
    [
        ("json.decoder", "formats"),
        ("re", "text"),
        ("os.path", "files"),
        ("asyncio", "concurrency"),
        ("jsonx", OTHER),
        ("", OTHER),
    ],
)
def test_by_the_first_part_of_the_name(module: str, area: str) -> None:
    assert area_of(module) == area


def test_no_module_is_in_two_areas_and_no_area_is_named_twice() -> None:
    names = [name for listed in _MODULES.values() for name in listed.split()]
    assert len(names) == len(set(names)) and len(AREAS) == len(set(AREAS))
    assert AREAS[-2:] == (REFERENCE, OTHER)


def test_most_documented_modules_of_this_python_have_an_area() -> None:
    public = [name for name in sys.stdlib_module_names if not name.startswith("_")]
    known = [name for name in public if area_of(name) != OTHER]
    assert len(known) > 0.8 * len(public)
