"""One rollout: answers are sampled, scored and measured, and become advantages.

Each process samples and measures its own prompts; what was measured is then gathered, so that every mean is
one over all answers and a run's numbers do not depend on the number of processes that compute them. What
this leaves out: updates (``ppo_update``), and how answers are scored (``rewards``).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object

from hf_align.data.batching import split_by_tokens
from hf_align.data.comparison_batches import collate_comparisons
from hf_align.data.packing import to_device
from hf_align.modeling.generation import Sampling
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.sampling import Continuation, sample_continuations
from hf_align.objectives.ppo import EpisodeRow, Floats, answer_tree
from hf_align.types import ComparisonRow

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from hf_align.config.ppo import PpoOptionsConfig
    from hf_align.data.prompts import Prompt
    from hf_align.training.ppo_models import PpoModels
    from hf_align.training.rewards import Rewards
    from hf_align.training.vllm_rollout import VllmServer

logger = logging.getLogger(__name__)


@dataclass
class Episode:
    """One sampled answer of L tokens, and what is known of it.

    ``prompt``: the number of its prompt in the rollout. ``tokens`` (L,) int32, the one that ended it
    included; ``text``: what they say without special tokens. ``stopped``: it ended by itself. ``reward``: the
    weighted sum of ``parts``, before anything is done to it; ``watch``: rewards that are not trained on, by
    name. In nats, each (L,) float32, at the sampling temperature: ``sampled_logps`` as taken while sampling,
    ``logps`` and ``entropies`` of the policy and ``reference_logps``, computed afterwards in one pass.
    ``values`` (L,), in the unit of the score.
    """

    prompt: int
    tokens: npt.NDArray[np.int32]
    sampled_logps: Floats
    stopped: bool
    text: str
    reward: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    logps: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    entropies: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    reference_logps: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    values: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    watch: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutTools:
    """What every rollout of a run needs. ``max_tokens``: tokens computed at once. ``watch``: rewards that
    answers are scored with and that the policy is not trained on. ``server``: samples in our place."""

    models: PpoModels
    rewards: Rewards
    tokenizer: PreTrainedTokenizerBase
    options: PpoOptionsConfig
    accelerator: Accelerator
    max_tokens: int
    watch: Rewards | None = None
    server: VllmServer | None = None


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
    return [_episode(tools.tokenizer, prompts[one.prompt][0], one) for one in found]


def _sample_here(
    tools: RolloutTools, prompts: Sequence[tuple[int, Prompt]], *, samples: int, seed: Sequence[int]
) -> list[Continuation]:
    models, options = tools.models, tools.options
    shape = (samples, options.max_new_tokens)
    draws = [np.random.default_rng(np.random.SeedSequence([*seed, n])).random(shape) for n, _ in prompts]
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
            max_rows=options.max_rows_at_once,
            draws=torch.from_numpy(np.stack(draws)),
        )
    models.module.train(was_training)
    return found


def _episode(tokenizer: PreTrainedTokenizerBase, prompt: int, found: Continuation) -> Episode:
    text = tokenizer.decode(found.tokens.tolist(), skip_special_tokens=True)
    return Episode(prompt, found.tokens, found.logps, found.stopped, str(text))


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


def trees_of(
    prompts: Sequence[tuple[int, Prompt]], episodes: Sequence[Episode]
) -> list[tuple[int, ComparisonRow, list[Episode]]]:
    """(number, tree, its episodes) for every prompt; ``episodes`` are ordered by prompt."""
    found = []
    for number, prompt in prompts:
        answers = [episode for episode in episodes if episode.prompt == number]
        tree = answer_tree(prompt.ids, [answer.tokens for answer in answers], prompt.example.source)
        found.append((number, tree, answers))
    return found


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
    for chosen in split_by_tokens(rows, tools.max_tokens, **layout):
        inputs = model_inputs(to_device(collate(chosen), models.policy.device).inputs)
        with tools.accelerator.autocast():
            output = models.module(**inputs, temperature=temperature, with_entropies=True)
            with _reference(models) as model:
                reference = model(**inputs, temperature=temperature)
        figures = {
            "logps": output["logps"],
            "entropies": output["entropies"],
            "values": output["estimates"],
            "reference_logps": reference["logps"],
        }
        answers = [episode for tree in chosen for episode in episodes_of[id(tree)]]
        ends = np.cumsum([len(answer.tokens) for answer in answers])[:-1]
        for name, tokens in figures.items():
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


def padded(rows: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
    """Rows (L_i,) below each other, with zeros behind them: (B, T) float32."""
    result = torch.zeros(len(rows), max(map(len, rows)))
    for i, row in enumerate(rows):
        result[i, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.float32))
    return result


def answer_mask(episodes: Sequence[Episode]) -> torch.Tensor:
    """(B, T) bool: the tokens of each answer."""
    lengths = torch.tensor([len(episode.tokens) for episode in episodes])
    return torch.arange(int(lengths.max()))[None, :] < lengths[:, None]


def update_rows(
    trees: Sequence[tuple[int, ComparisonRow, list[Episode]]],
    episodes: Sequence[Episode],
    advantages: torch.Tensor,
    returns: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> list[tuple[int, EpisodeRow]]:
    """(number of the prompt, row) for this process's ``trees``.

    ``advantages``, ``returns`` and, if given, ``weights`` (B, T) belong to ``episodes`` (B), those of all
    processes.
    """
    places: dict[int, list[int]] = {}
    for place, episode in enumerate(episodes):
        places.setdefault(episode.prompt, []).append(place)

    def joined(table: torch.Tensor, number: int) -> Floats:
        return np.concatenate([table[i, : len(episodes[i].tokens)].numpy() for i in places[number]])

    return [
        (
            number,
            EpisodeRow(
                tree,
                np.concatenate([answer.logps for answer in answers]),
                np.concatenate([answer.values for answer in answers]),
                joined(advantages, number),
                joined(returns, number),
                None if weights is None else joined(weights, number),
            ),
        )
        for number, tree, answers in trees
    ]
