"""Answers to prompts as text: the one place where sampled tokens become what an answer says.

Rewards, evaluation, files and chat read the same text. Also here: the random numbers behind the answers to a
prompt. What this leaves out: how tokens are sampled (``continuations``), and an answer that is shown while it
is written (``streaming``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    ``text``: without special tokens and without the stop token that ended it, special or not.
    ``stopped``: the model ended it, not the token limit.
    ``tokens``: how many were sampled, the one that ended it included.
    ``interrupted``: Ctrl-C ended it.
    """

    text: str
    stopped: bool
    tokens: int
    interrupted: bool = False


def answer_of(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int], stop_ids: Sequence[int]) -> Answer:
    """The answer that sampled ``ids`` hold: what stands before the first of the ``stop_ids``."""
    sampled = [int(token) for token in ids]
    end = next((i for i, token in enumerate(sampled) if token in stop_ids), None)
    text = str(tokenizer.decode(sampled[:end], skip_special_tokens=True))
    return Answer(text, end is not None, len(sampled) if end is None else end + 1)


def sample_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    samples: int = 1,
    sharded: bool = False,
    **options: Any,
) -> list[list[Answer]]:
    """``samples`` answers to each of the ``prompts``, given as ids.

    ``sharded``: every process holds a part of the model and samples the same prompts. ``options``: more of
    ``sample_continuations``, which raises its errors here as well.
    """
    found = sample_continuations(
        model,
        prompts,
        sampling,
        # Processes meet in each forward pass of a sharded model, and must make as many of them even where
        # rounding lets one draw another token: nobody stops before the limit, and what is behind the end
        # is cut off.
        stop_ids=[] if sharded else stop_ids,
        pad_token_id=int(tokenizer.pad_token_id),
        samples=samples,
        **options,
    )
    answers = [answer_of(tokenizer, one.tokens, stop_ids) for one in found]
    return [answers[start : start + samples] for start in range(0, len(answers), samples)]


def draws_of(seeds: Sequence[Sequence[int] | str], samples: int, max_new_tokens: int) -> torch.Tensor:
    """(prompts, samples, max_new_tokens) float64 from [0, 1): the random number behind every token.

    What a prompt gets follows from its own seed alone: numbers seed NumPy's generator; of a hash, given as
    hexadecimal digits, the first 15 seed PyTorch's. Runs that are resumed and earlier evaluations rest on it.
    """
    shape = (samples, max_new_tokens)

    def draw(seed: Sequence[int] | str) -> torch.Tensor:
        if isinstance(seed, str):
            generator = torch.Generator().manual_seed(int(seed[:15], 16))
            return torch.rand(shape, dtype=torch.float64, generator=generator)
        return torch.from_numpy(np.random.default_rng(np.random.SeedSequence(seed)).random(shape))

    return torch.stack([draw(seed) for seed in seeds])
