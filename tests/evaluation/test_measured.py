"""Names of what is measured, and where metrics are collected."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.config import DatasetConfig
from hf_align.errors import UserError
from hf_align.evaluation.measured import Evaluation, bar, named_datasets, task_names


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([(None, "data/a.jsonl"), (None, "b")], ["a", "b"]),
        ([("own", "data/a.jsonl"), (None, "data/a.csv")], ["own", "a"]),
        ([(None, "big/animals/task.json"), (None, "big/cities/task.json")], ["animals", "cities"]),
    ],
)
def test_names_of_tasks(entries, names) -> None:
    assert task_names("choice_tasks", entries) == names


def test_two_of_one_name() -> None:
    with pytest.raises(UserError, match="choice_tasks: two entries are called 'a'"):
        task_names("choice_tasks", [(None, "x/a.json"), ("a", "y")])


def test_a_configuration_on_the_hub_belongs_to_the_name() -> None:
    entries = [DatasetConfig("org/set", name="en"), DatasetConfig("org/set", name="de")]
    assert named_datasets("perplexity_datasets", entries) == [("set-en", entries[0]), ("set-de", entries[1])]


def test_metrics_and_items_are_kept_apart() -> None:
    found = Evaluation()
    found.add("perplexity", "t", "m", {"nll": 1.0}, np.ones((2, 2)))
    found.add("perplexity", "t", "n", {"nll": 2.0}, None)
    assert found.results == {"perplexity": {"t": {"m": {"nll": 1.0}, "n": {"nll": 2.0}}}}
    assert list(found.items) == [("perplexity", "t", "m")]


def test_a_bar_counts_units(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("work", "row", 5) as advance:
        advance(2)
        advance(3)
    assert "work" in capsys.readouterr().err
