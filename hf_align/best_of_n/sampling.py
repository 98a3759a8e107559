"""Many answers to each prompt, sampled and scored, by one process or by several that share the prompts.

The random numbers behind the answers to a prompt depend on the seed and on that prompt alone: not on what is
sampled beside it, in which order, or by how many processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.best_of_n import answers
from hf_align.best_of_n.answers import SampledPrompt, as_written, digest, prompt_key
from hf_align.data.chat.prompts import Prompt
from hf_align.rewards.models import Rewards
from hf_align.rewards.scaling import penalize_missing_eos
from hf_align.runs import processes
from hf_align.sampling.answers import draws_of, sample_answers
from hf_align.sampling.options import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampler:
    """The model and all that decides what it answers. ``samples``: answers to each prompt; ``max_rows``: how
    many are written at once, over all prompts of a batch."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stop_ids: Sequence[int]
    rewards: Rewards
    sampling: Sampling
    samples: int
    seed: int
    max_rows: int
    missing_eos_penalty: float | None = None

    def answer(self, prompts: Sequence[Prompt]) -> list[SampledPrompt]:
        """The answers to ``prompts``, which are sampled together."""
        keys = [prompt_key(prompt) for prompt in prompts]
        sampled = sample_answers(
            self.model,
            self.tokenizer,
            [prompt.ids for prompt in prompts],
            self.sampling,
            stop_ids=self.stop_ids,
            samples=self.samples,
            max_rows=self.max_rows,
            draws=draws_of(
                [digest([self.seed, key]) for key in keys], self.samples, self.sampling.max_new_tokens
            ),
        )
        every = [answer for of_prompt in sampled for answer in of_prompt]
        asked = [prompt for prompt in prompts for _ in range(self.samples)]
        scored = self.rewards.score(
            [prompt.text for prompt in asked],
            [answer.text for answer in every],
            [prompt.row for prompt in asked],
            [prompt.example for prompt in asked],
        )
        totals = penalize_missing_eos(
            scored.total, [answer.stopped for answer in every], self.missing_eos_penalty
        )
        found = []
        for number, (prompt, key, of_prompt) in enumerate(zip(prompts, keys, sampled, strict=True)):
            mine = slice(number * self.samples, (number + 1) * self.samples)
            found.append(
                SampledPrompt(
                    prompt=as_written(prompt),
                    answers=[answer.text for answer in of_prompt],
                    scores=totals[mine].tolist(),
                    rewards={name: values[mine].tolist() for name, values in scored.parts.items()},
                    stopped=[answer.stopped for answer in of_prompt],
                    tokens=[answer.tokens for answer in of_prompt],
                    reference=prompt.reference,
                    source=prompt.example.source,
                    key=key,
                    batch=digest(keys),
                    batch_size=len(prompts),
                )
            )
        return found


@dataclass
class Effort:
    """What sampling took: tokens of answers, over all processes, and seconds."""

    tokens: int = 0
    seconds: float = 0.0


def answer_all(
    prompts: Sequence[Prompt],
    path: Path,
    sampler: Callable[[], Sampler],
    *,
    samples: int,
    max_rows: int,
    effort: Effort,
    what: str = "sampling and scoring",
) -> dict[str, SampledPrompt]:
    """The answers to all ``prompts`` by key, those included that ``path`` holds already; it gets the rest.

    ``sampler`` is called where there is anything left to sample. With several processes each of them samples
    its share, and all return the same.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object
    from tqdm.auto import tqdm

    state = PartialState()
    answered = processes.on_main(lambda: answers.read_answers(path))
    asked = {prompt_key(prompt): prompt for prompt in prompts}
    left = [prompt for key, prompt in asked.items() if key not in answered]
    if not left:
        return answered
    working, started = sampler(), time.perf_counter()
    groups = list(batches(left, max(1, max_rows // samples)))
    best, done = 0.0, 0
    with tqdm(
        total=len(asked),
        initial=len(asked) - len(left),
        desc=what,
        unit="prompt",
        disable=not state.is_main_process,
    ) as bar:
        for start in range(0, len(groups), state.num_processes):
            mine = groups[start + state.process_index :][:1]
            found = working.answer(mine[0]) if mine else []
            if state.num_processes > 1:
                found = gather_object(found)
            if state.is_main_process:
                answers.append_answers(path, found)
            answered |= {each.key: each for each in found}
            effort.tokens += sum(sum(each.tokens) for each in found)
            best += sum(max(each.scores) for each in found)
            done += len(found)
            bar.set_postfix(best=f"{best / done:.3g}", refresh=False)
            bar.update(len(found))
    effort.seconds += time.perf_counter() - started
    return answered


def batches(prompts: Sequence[Prompt], together: int) -> Iterator[list[Prompt]]:
    """Prompts that are answered ``together``: of similar length, the longest first."""
    order = sorted(prompts, key=lambda prompt: -len(prompt.ids))
    for start in range(0, len(order), together):
        yield order[start : start + together]
