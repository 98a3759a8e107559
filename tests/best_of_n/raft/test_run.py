"""What decides whether rounds can be gone on with, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_align.best_of_n.raft.run import _check_rounds, _distinct, _results
from hf_align.data.chat.prompts import Prompt
from hf_align.errors import UserError
from hf_align.types import Example


def config(folder: Path, rounds: int) -> Any:
    return SimpleNamespace(
        training=SimpleNamespace(output_dir=str(folder)), best_of_n=SimpleNamespace(rounds=rounds)
    )


def test_fewer_rounds_than_are_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "round-3").mkdir()
    _check_rounds(config(tmp_path, 3), resuming=True)
    _check_rounds(config(tmp_path, 2), resuming=False)
    with pytest.raises(UserError, match=r"rounds: found 2, but .* has begun round 3"):
        _check_rounds(config(tmp_path, 2), resuming=True)


def test_prompts_count_once() -> None:
    def prompt(place: str, ids: tuple[int, ...]) -> Prompt:
        return Prompt(ids, "x", "y", Example(place, prompt="x", completion="y"), {"a": 1})

    rows = [prompt("a:1", (1, 2)), prompt("b:1", (1, 2)), prompt("a:2", (1, 2)), prompt("a:1", (3,))]
    assert len(_distinct(rows)) == 3, "the same row of a file that has another name is the same prompt"


def test_what_is_said() -> None:
    curve = [{"n": 1, "reward": 0.5}, {"n": 4, "reward": 0.75}]
    held = {"reward": 1.0, "change": 0.0, "change_interval": None}
    later = {"reward": 1.5, "change": 0.5, "change_interval": [0.25, 0.75]}
    done = [
        {"round": 0, "held_out": held},
        {"round": 1, "sampled": {"curve": curve}, "kept": 3, "kept_prompts": 2, "held_out": later},
    ]
    first, second = _results(done)
    assert (
        "round 1: mean reward of the samples 0.5, of the best of 4 0.75; 3 answers to 2 prompts kept" in first
    )
    assert second == "held-out reward: 1 -> 1.5, +0.5 (95 %: +0.25 to +0.75)"
    assert len(_results([{**done[0], "held_out": None}, {**done[1], "held_out": None}])) == 1
