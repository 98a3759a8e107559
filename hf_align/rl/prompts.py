"""Which prompts each rollout asks: all of them in a new order, again and again, whatever the rollout size."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from hf_align.data.batching import order_generator
from hf_align.data.chat.prompts import Prompt, prompts_of
from hf_align.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_align.rl.recipe import RlConfig
    from hf_align.training.run import Run
    from hf_align.types import Example


@dataclasses.dataclass(frozen=True)
class PromptOrder:
    """An endless order of ``rows`` rows; every row comes once before any comes again. Depends on ``seed``."""

    rows: int
    seed: int

    def numbers(self, start: int, count: int) -> list[int]:
        """The rows at the places ``start`` to ``start + count`` of the order."""
        found: list[int] = []
        while len(found) < count:
            epoch, place = divmod(start + len(found), self.rows)
            found += self._epoch(epoch)[place : place + count - len(found)]
        return found

    def _epoch(self, epoch: int) -> list[int]:
        generator = order_generator(self.seed, epoch)
        order: list[int] = torch.randperm(self.rows, generator=generator).tolist()
        return order


@dataclasses.dataclass(frozen=True)
class RunPrompts:
    """``training``: the prompts that the run will ask, by the number of their row; ``held_out``: those of the
    evaluation, in order. ``size``: prompts of a rollout."""

    order: PromptOrder
    training: dict[int, Prompt]
    held_out: list[Prompt]
    size: int

    def of_rollout(self, number: int) -> list[Prompt]:
        """The prompts of rollout ``number`` (from 0), over all processes."""
        return [self.training[row] for row in self.order.numbers(number * self.size, self.size)]


def run_prompts(run: Run, rollouts: int) -> RunPrompts:
    """The prompts of a run of so many ``rollouts``.

    Raises UserError for rows without a prompt, and where a process would have none in a rollout.
    """
    config: RlConfig = run.config
    size = config.options.rollout_batch_size
    processes = run.identity["processes"]
    if size < processes:
        raise UserError(
            f"rollout_batch_size: {size} prompts cannot be shared by {processes} processes; expected at "
            "least one for each"
        )
    order = PromptOrder(len(run.data.train), config.training.seed)
    numbers = sorted(set(order.numbers(0, rollouts * size)))
    examples: Sequence[Example] = run.data.train.examples
    found = prompts_of([examples[number] for number in numbers], config.data, run.tokenizer)
    held_out = prompts_of(list(run.data.eval_examples), config.data, run.tokenizer)
    return RunPrompts(order, dict(zip(numbers, found, strict=True)), held_out, size)
