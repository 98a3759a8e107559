"""Batches of prompts of similar length, draws that follow from the prompt alone, and nothing done twice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hf_align.best_of_n import sampling
from hf_align.best_of_n.answers import SampledPrompt, prompt_key, read_answers
from hf_align.best_of_n.sampling import Effort, Sampler, answer_all, batches
from hf_align.data.chat.prompts import Prompt
from hf_align.rewards.models import Scored
from hf_align.sampling.answers import Answer
from hf_align.sampling.options import Sampling
from hf_align.types import Example


def prompt(length: int) -> Prompt:
    example = Example(f"p:{length}", prompt="x" * length, completion="y")
    return Prompt(tuple(range(length)), "x" * length, "y", example, {"n": length})


class Counting:
    """A sampler that gives every prompt one answer and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def answer(self, prompts: list[Prompt]) -> list[SampledPrompt]:
        self.asked.append([len(each.ids) for each in prompts])
        return [
            SampledPrompt("p", ["a"], [float(len(each.ids))], {}, [True], [3], "r", "s", prompt_key(each))
            for each in prompts
        ]


def test_the_longest_come_first_and_together() -> None:
    groups = list(batches([prompt(n) for n in (2, 9, 4, 7, 1)], 2))
    assert [[len(each.ids) for each in group] for group in groups] == [[9, 7], [4, 2], [1]]


def test_what_is_there_is_not_sampled_again(tmp_path: Path) -> None:
    path, sampler, effort = tmp_path / "samples.jsonl", Counting(), Effort()

    def run(*lengths: int) -> dict[str, SampledPrompt]:
        prompts = [prompt(n) for n in lengths]
        make: Any = lambda: sampler  # noqa: E731
        return answer_all(prompts, path, make, samples=2, max_rows=4, effort=effort)

    assert len(run(3, 5)) == 2 and sampler.asked == [[5, 3]]
    found = run(3, 5, 8)
    assert sampler.asked == [[5, 3], [8]] and len(found) == 3 and effort.tokens == 9
    assert found.keys() == read_answers(path).keys()
    run(3, 5, 8)
    assert len(sampler.asked) == 2


def test_draws_follow_from_seed_and_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(seed: int, length: int) -> torch.Tensor:
        passed: list[torch.Tensor] = []

        def sampled(*given: Any, draws: torch.Tensor, **options: Any) -> list[list[Answer]]:
            passed.append(draws[0])
            return [[Answer("a", True, 1)] * 3]

        monkeypatch.setattr(sampling, "sample_answers", sampled)
        rewards: Any = SimpleNamespace(score=lambda *given: Scored(np.zeros(3), {}))
        Sampler(None, None, [], rewards, Sampling(5, 1.0), 3, seed, 8).answer([prompt(length)])  # type: ignore[arg-type]
        return passed[0]

    one = draws(1, 4)
    assert one.shape == (3, 5) and torch.equal(one, draws(1, 4))
    assert not torch.equal(one, draws(1, 6)) and not torch.equal(one, draws(2, 4))
