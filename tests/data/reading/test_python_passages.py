"""The classification set out of Python's own documentation."""

from __future__ import annotations

from collections import Counter

import pytest

from hf_align.config import DatasetConfig
from hf_align.data.reading.python_areas import area_of
from hf_align.data.reading.python_passages import (
    CLASSES,
    LONGEST,
    SHORTEST,
    TEST_ROWS,
    TRAIN_ROWS,
    python_passages,
    read_python_areas,
)
from hf_align.data.reading.sources import read_rows
from hf_align.errors import UserError


@pytest.fixture(scope="module")
def passages():
    return python_passages()


def test_classes_are_balanced_and_modules_apart(passages):
    train, test = passages
    for rows, wanted in ((train, TRAIN_ROWS), (test, TEST_ROWS)):
        assert Counter(row.values["label"] for row in rows) == dict.fromkeys(CLASSES, wanted)
    modules = [{row.values["module"] for row in rows} for rows in passages]
    assert not modules[0] & modules[1]
    for row in (*train, *test):
        assert area_of(row.values["module"]) == row.values["label"]
        assert SHORTEST <= len(row.values["text"]) <= LONGEST
    texts = [row.values["text"] for row in (*train, *test)]
    assert len(set(texts)) == len(texts)
    assert max(Counter(row.values["module"] for row in test).values()) <= 12


def test_the_rows_are_the_same_every_time_and_mixed(passages):
    rows = list(read_rows(DatasetConfig("python_areas", split="test")))
    assert [row.place for row in rows] == [row.place for row in read_python_areas("test")]
    assert {row.place for row in rows} == {row.place for row in passages[1]}
    assert len({row.values["label"] for row in rows[:30]}) == len(CLASSES)
    assert len(list(read_rows(DatasetConfig("python_areas", max_rows=7)))) == 7
    assert len(list(read_python_areas("all"))) == len(CLASSES) * (TRAIN_ROWS + TEST_ROWS)


def test_another_split_is_named():
    with pytest.raises(UserError, match="python_areas: found the split 'tets', expected one of train, test"):
        read_rows(DatasetConfig("python_areas", split="tets"))
