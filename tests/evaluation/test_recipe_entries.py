"""Entries of an evaluation's lists: checks by name, few-shot prompts, and the rows that a task reads."""

from __future__ import annotations

import pytest

from hf_align.config.data import DatasetConfig
from hf_align.config.group import KeyProblem
from hf_align.evaluation.instruction_checks import CHECKS as IMPLEMENTED
from hf_align.evaluation.recipe_entries import CHECKS, ChoiceTask, EvaluatedModel, GenerationTask


def test_every_check_that_may_be_named_is_implemented() -> None:
    assert sorted(CHECKS) == sorted(IMPLEMENTED)
    with pytest.raises(KeyProblem, match="Did you mean 'max_words'"):
        GenerationTask("g", checks={"max_word": 3})


def test_solved_examples_need_a_place_that_they_come_from() -> None:
    assert GenerationTask("g", num_fewshot=2, dev_path="d").num_fewshot == 2
    for alone in ({"num_fewshot": 2}, {"dev_path": "d"}):
        with pytest.raises(KeyProblem, match="each of the two needs the other"):
            GenerationTask("g", **alone)


def test_the_rows_of_a_task_and_those_of_its_examples() -> None:
    task = GenerationTask("g", num_fewshot=1, dev_path="d", columns={"a": "b"}, skip_rows=4, max_rows=9)
    assert task.dataset() == DatasetConfig("g", columns={"a": "b"}, skip_rows=4, max_rows=9)
    assert task.dataset("d", 1) == DatasetConfig("d", columns={"a": "b"}, max_rows=1)


def test_the_home_of_the_user_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert EvaluatedModel("~/a", base_model="~/b").base_model == "/home/x/b"
    assert ChoiceTask("~/a", dev_path="~/d").dev_path == "/home/x/d"
    assert GenerationTask("~/g").path == "/home/x/g"
