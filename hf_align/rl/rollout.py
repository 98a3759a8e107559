"""One rollout: answers are sampled, scored and measured.

Each process samples and measures its own prompts; what was measured is then gathered, so that every mean is
one over all answers and a run's numbers do not depend on the number of processes that compute them. What
this leaves out: advantages, updates, and how answers are scored (``rewards``).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object

from hf_align.data.batching import split_by_tokens
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import to_device
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.lengths_apart import lengths_apart
from hf_align.rl.advantages import answer_metrics, reward_metrics
from hf_align.rl.episodes import Episode, trees_of
from hf_align.sampling.answers import answer_of, draws_of
from hf_align.sampling.batch import Continuation
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.types import ComparisonRow

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from hf_align.data.chat.prompts import Prompt
    from hf_align.rewards.models import Rewards
    from hf_align.rl.algorithms.options import RlOptionsConfig
    from hf_align.rl.models import PpoModels

logger = logging.getLogger(__name__)


class AnswerServer(Protocol):
    """What samples in place of this process, such as a vLLM server."""

    def follow(self, policy: Any) -> None:
        """Take over the weights of ``policy``; every process has to call this."""

    def sample(
        self,
        models: PpoModels,
        options: RlOptionsConfig,
        prompts: Sequence[tuple[int, Prompt]],
        *,
        samples: int,
        seed: Sequence[int],
    ) -> list[Continuation]:
        """``samples`` answers to each of the numbered ``prompts``, ordered by prompt."""
        ...


@dataclass(frozen=True)
class RolloutTools:
    """What every rollout of a run needs. ``max_tokens``: tokens computed at once. ``watch``: rewards that
    answers are scored with and that the policy is not trained on. ``server``: samples in our place."""

    models: PpoModels
    rewards: Rewards
    tokenizer: PreTrainedTokenizerBase
    options: RlOptionsConfig
    accelerator: Accelerator
    max_tokens: int
    watch: Rewards | None = None
    server: AnswerServer | None = None


def sample_episodes(
    tools: RolloutTools, prompts: Sequence[tuple[int, Prompt]], *, samples: int, seed: Sequence[int]
) -> list[Episode]:
    """``samples`` answers to each of this process's ``prompts`` (number, prompt), ordered by prompt.

    What is drawn for a prompt depends on ``seed`` and its number alone: not on what was drawn before, on
    other prompts, or on the process.
    """
    if tools.server is not None:
        tools.server.follow(tools.models.policy)  # together with the processes that have no prompts
    if not prompts:
        return []
    if tools.server is None:
        found = _sample_here(tools, prompts, samples=samples, seed=seed)
    else:
        found = tools.server.sample(tools.models, tools.options, prompts, samples=samples, seed=seed)
    texts = [answer_of(tools.tokenizer, one.tokens, tools.models.stop_ids).text for one in found]
    return [
        Episode(prompts[one.prompt][0], one.tokens, one.logps, one.stopped, text)
        for one, text in zip(found, texts, strict=True)
    ]


def _sample_here(
    tools: RolloutTools, prompts: Sequence[tuple[int, Prompt]], *, samples: int, seed: Sequence[int]
) -> list[Continuation]:
    models, options = tools.models, tools.options
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k)
    was_training = models.module.training
    models.module.eval()
    with tools.accelerator.autocast():
        found = sample_continuations(
            models.policy,
            [prompt.ids for _, prompt in prompts],
            sampling,
            stop_ids=models.stop_ids,
            pad_token_id=models.pad_token_id,
            samples=samples,
            max_rows=options.generation_batch_size,
            draws=draws_of([(*seed, n) for n, _ in prompts], samples, options.max_new_tokens),
        )
    models.module.train(was_training)
    return found


def score_episodes(
    tools: RolloutTools, prompts: Sequence[tuple[int, Prompt]], episodes: Sequence[Episode]
) -> None:
    """Give each of this process's episodes its reward, and those of the watch, in place."""
    if not episodes:
        return
    asked = dict(prompts)
    of_each = [asked[episode.prompt] for episode in episodes]
    answers = (
        [prompt.text for prompt in of_each],
        [episode.text for episode in episodes],
        [prompt.row for prompt in of_each],
        [prompt.example for prompt in of_each],
    )
    scored = tools.rewards.score(*answers)
    watched = {} if tools.watch is None else tools.watch.score(*answers).parts
    for i, episode in enumerate(episodes):
        episode.reward = float(scored.total[i])
        episode.parts = {name: float(values[i]) for name, values in scored.parts.items()}
        episode.watch = {name: float(values[i]) for name, values in watched.items()}


@torch.no_grad()
def measure_episodes(tools: RolloutTools, trees: Sequence[tuple[int, ComparisonRow, list[Episode]]]) -> None:
    """Give the episodes their log-probabilities under policy and reference, entropies and values, in place.

    Both models see the same micro-batches, so that two that are the same give the same to the last bit.
    """
    models, temperature = tools.models, tools.options.temperature
    episodes_of = {id(tree): episodes for _, tree, episodes in trees}
    collate = partial(
        collate_comparisons,
        packed=models.packed,
        share_prefix=models.shared,
        pad_token_id=models.pad_token_id,
    )
    was_training = models.module.training
    models.module.eval()
    rows = [tree for _, tree, _ in trees]
    layout = {"padded": not models.packed, "shared": models.shared}
    apart = lengths_apart(models.policy, padded=not models.packed)
    for chosen in split_by_tokens(rows, tools.max_tokens, **layout, apart=apart):
        inputs = model_inputs(to_device(collate(chosen), models.policy.device).inputs)
        with tools.accelerator.autocast():
            output = models.module(**inputs, temperature=temperature, with_entropies=True)
            with _reference(models) as model:
                reference = model(**inputs, temperature=temperature)
        metrics = {
            "logps": output["logps"],
            "entropies": output["entropies"],
            "values": output.get("state_values", torch.zeros_like(output["logps"])),
            "reference_logps": reference["logps"],
        }
        answers = [episode for tree in chosen for episode in episodes_of[id(tree)]]
        ends = np.cumsum([len(answer.tokens) for answer in answers])[:-1]
        for name, tokens in metrics.items():
            for answer, part in zip(answers, np.split(tokens.float().cpu().numpy(), ends), strict=True):
                setattr(answer, name, part.copy())
    models.module.train(was_training)


@contextlib.contextmanager
def _reference(models: PpoModels) -> Iterator[torch.nn.Module]:
    if models.reference is not None:
        yield models.reference
        return
    with models.policy.disable_adapter():
        yield models.policy


def gather_episodes(accelerator: Accelerator, mine: list[Episode]) -> list[Episode]:
    """The episodes of all processes, ordered by prompt."""
    every = gather_object(mine) if accelerator.num_processes > 1 else mine
    # sorted() keeps the samples of a prompt in their order: they come from one process.
    return sorted(every, key=lambda episode: episode.prompt)


def held_out_metrics(
    tools: RolloutTools, prompts: Sequence[Prompt], *, seed: tuple[int, ...]
) -> dict[str, float]:
    """What answers to held-out prompts are worth, one to each, sampled as in a rollout.

    Metrics of the rewards and the answers, and ``kl``, the mean over the answers of their log-probability
    under the policy less that under the reference, in nats; the same on every process.
    """
    rank, processes = tools.accelerator.process_index, tools.accelerator.num_processes
    asked = list(enumerate(prompts))[rank::processes]
    mine = sample_episodes(tools, asked, samples=1, seed=seed)
    score_episodes(tools, asked, mine)
    measure_episodes(tools, trees_of(asked, mine))
    episodes = gather_episodes(tools.accelerator, mine)
    kl = sum(float((one.logps - one.reference_logps).sum()) for one in episodes) / len(episodes)
    return {**reward_metrics(episodes), **answer_metrics(episodes), "kl": kl}
