"""``$NAME`` in the values of a stage: found in every part, replaced by folders, or refused."""

from __future__ import annotations

import pytest
import yaml

from hf_align.config.yaml_nodes import Source, mapping_items
from hf_align.errors import UserError
from hf_align.pipeline.references import referenced, with_folders


def items(text: str):
    return list(mapping_items(yaml.compose(text, Loader=yaml.SafeLoader), Source("p.yaml")))


def found(text: str, earlier=("sft", "rm"), later=("dpo", "end")) -> list[str]:
    return referenced(items(text), Source("p.yaml"), "stages entry 3: ", earlier=earlier, later=later)


def value(text: str) -> object:
    node = with_folders(yaml.compose(text, Loader=yaml.SafeLoader), {"sft": "out/sft", "rm": "out/rm"})
    return yaml.SafeLoader("").construct_object(node, deep=True)


def test_each_name_once_in_lists_and_mappings_too() -> None:
    text = "a: $sft\nb: [x, {c: '${rm}_b/$sft'}]\nd: $5 and $$sft\n"
    assert found(text) == ["sft", "rm"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: $dpo", "p.yaml:2: stages entry 3: b: found $dpo, which is this stage itself"),
        ("b: ${end}", "found ${end}, which comes after this stage"),
        ("b: $rmm", "there is no stage 'rmm'; there are: $sft, $rm. Did you mean 'rm'?"),
        ("b: ${}", "there is no stage ''"),
    ],
)
def test_what_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        found(text)
    assert message in str(caught.value)


def test_an_alias_inside_its_own_anchor() -> None:
    with pytest.raises(UserError, match="contains itself"):
        found("a: &x [$sft, *x]")


def test_folders_take_the_place_of_references() -> None:
    assert value("{a: $sft, b: ['${rm}_b', $$sft, $5], c: 3}") == {
        "a": "out/sft",
        "b": ["out/rm_b", "$sft", "$5"],
        "c": 3,
    }
