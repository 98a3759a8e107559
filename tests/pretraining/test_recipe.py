"""What the pre-training recipe knows of objectives agrees with the table of collators."""

from __future__ import annotations

from typing import get_args

from hf_align.pretraining.collators import OBJECTIVES
from hf_align.pretraining.recipe import (
    KIND_OF_ARCHITECTURE,
    KIND_OF_OBJECTIVE,
    OWN_OBJECTIVE,
    ArchitectureName,
    ObjectiveName,
)


def test_objectives_and_their_kinds_are_those_of_the_collators():
    assert {*get_args(ObjectiveName)} == {*OBJECTIVES} == {*KIND_OF_OBJECTIVE}
    assert {name: kind.architecture for name, kind in OBJECTIVES.items()} == KIND_OF_OBJECTIVE


def test_every_architecture_has_an_objective_of_its_kind():
    assert {*get_args(ArchitectureName)} == {*KIND_OF_ARCHITECTURE} == {*OWN_OBJECTIVE}
    for architecture, objective in OWN_OBJECTIVE.items():
        assert KIND_OF_OBJECTIVE[objective] == KIND_OF_ARCHITECTURE[architecture]
