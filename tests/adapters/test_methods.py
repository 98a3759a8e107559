"""The table of own methods: each under its own name, with options that a recipe can build."""

from __future__ import annotations

import dataclasses

import pytest

from hf_align.adapters.methods import METHODS
from hf_align.config.adapter import AdapterConfig
from hf_align.config.fields import choices, members, specs_of
from hf_align.config.peft_names import PEFT_TYPES, peft_names


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_is_an_adapter_of_the_recipe(name: str) -> None:
    method = METHODS[name]
    assert method.name == name and dataclasses.is_dataclass(method.options)
    method.options()
    assert AdapterConfig(adapter=name).adapter == name
    assert name not in PEFT_TYPES and name not in peft_names(), "PEFT has a method of this name by now"


def test_the_recipe_names_no_method_that_is_not_there() -> None:
    hint = specs_of(AdapterConfig)["adapter"].hint
    named = {choice for member in members(hint) for choice in choices(member)}
    assert named <= {"none", *PEFT_TYPES, *METHODS}
