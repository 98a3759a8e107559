"""The project's own word problems: reproducible, right, held out, and read as prompts with their answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.scripts import DATA, load_script

from hf_align.rewards.verifiable.answers import numeric

FILES = ("maths_en.jsonl", "maths_heldout.jsonl")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script(DATA / "make_maths.py")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def question(row: dict[str, Any]) -> str:
    (turn,) = row["messages"]
    assert turn["role"] == "user"
    return str(turn["content"])


def test_the_generator_reproduces_the_committed_files(maker: ModuleType, tmp_path: Path) -> None:
    assert maker.main(["--output", str(tmp_path)]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


@pytest.mark.parametrize(("name", "count"), [(FILES[0], 600), (FILES[1], 150)])
def test_steps_are_true_and_lead_to_the_answer(name: str, count: int) -> None:
    rows = read(name)
    assert len(rows) == count and len({question(row) for row in rows}) == count
    for row in rows:
        steps, _, answer = row["answer"].partition("\n#### ")
        parts = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", steps)
        assert len(parts) == row["steps"] == steps.count("=")
        for a, operation, b, result in parts:
            assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[operation] == int(
                result
            )
        assert parts[-1][3] == answer and int(answer) > 0
        # The numbers of the steps are those of the question, in its order or as intermediate results.
        used = {number for a, _, b, _ in parts for number in (a, b)}
        assert used - {part[3] for part in parts} <= set(re.findall(r"\d+", question(row)))


def test_the_reward_takes_the_solution_and_no_other(maker: ModuleType) -> None:
    rows = read(FILES[1])
    assert numeric([row["answer"].partition("\n")[0] for row in rows], rows) == [1.0] * len(rows)
    assert numeric([f"It is {row['answer']}1" for row in rows], rows) == [0.0] * len(rows)


def test_held_out_problems_share_no_frame_thing_or_name(maker: ModuleType) -> None:
    for own, held in (maker.NAMES, maker.THINGS, maker.HOLDERS):
        assert not set(own) & set(held)
    for _, own, held in maker.PROBLEMS:
        assert not set(own) & set(held)
    assert not {question(row) for row in read(FILES[0])} & {question(row) for row in read(FILES[1])}
