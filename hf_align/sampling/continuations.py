"""Many continuations of many prompts, with the log-probability of every token that was chosen.

Prompts of similar length are continued together. A prompt is computed once for all its samples, which read
its keys where they lie (``decoding``), where that is right for the model (``ways``). What this module leaves
out: the sequences of a batch (``batch``), text, and streaming one answer (``streaming``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hf_align.modeling.positions import longrope_bound
from hf_align.modeling.virtual_tokens import PromptedModel, count_virtual_tokens
from hf_align.sampling.batch import Continuation, SequenceBatch, Way
from hf_align.sampling.decoding_weights import weights_for_decoding
from hf_align.sampling.options import Sampling
from hf_align.sampling.ways import abilities, way_for


@torch.no_grad()
def sample_continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    pad_token_id: int,
    samples: int = 1,
    max_rows: int = 64,
    generator: torch.Generator | None = None,
    draws: torch.Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Continuation]:
    """``samples`` continuations of each prompt, ordered by prompt.

    ``model``: a causal language model with a key-value cache, in evaluation mode. ``max_rows``: sequences
    continued together; changes speed and memory, and results by rounding alone. ``draws``: (prompts, samples,
    max_new_tokens) float64 from [0, 1), the random number behind every token; without it they come from
    ``generator``, without that from torch's global one. ``progress`` is called with the number of sequences
    that a batch finished. Raises ValueError without prompts, for an empty one, for less than one sample or
    row, and for draws of another shape; UserError for a model whose logits are not finite, that keeps no
    cache, or with which no way of continuing sequences is right (``ways``).
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("need at least one prompt, and at least one token in each")
    if samples < 1 or max_rows < 1:
        raise ValueError(f"need at least one sample and one row, got {samples} and {max_rows}")
    shape = (len(prompts), samples, sampling.max_new_tokens)
    if draws is None:
        device = "cpu" if generator is None else generator.device
        draws = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
    if draws.shape != shape:
        raise ValueError(f"need draws of shape {shape}, got {tuple(draws.shape)}")
    found: list[Continuation] = []
    steps = -(-len(prompts) * samples // max_rows) * sampling.max_new_tokens
    rows = min(max_rows, len(prompts) * samples)
    virtual = count_virtual_tokens(model)
    way = way_for(model, pad_token_id)
    max_rows = max_rows if way.together else 1
    bound = longrope_bound(model)
    bound = None if bound is None else bound - virtual
    whole, model = model, PromptedModel(model) if virtual else model
    with abilities(whole) as able, weights_for_decoding(whole, rows=rows, steps=steps):
        lengths = [len(prompt) for prompt in prompts]
        for chosen, part in _batches(lengths, samples, max_rows, _apart(way, bound, sampling.max_new_tokens)):
            numbers = [i for i in chosen for _ in range(part.stop - part.start)]
            read = [prompts[i] for i in (chosen if way.moves else numbers)]
            batch = SequenceBatch(
                model, read, sampling, stop_ids, pad_token_id, way=way, able=able, bound=bound
            )
            found += batch.run(numbers, draws[chosen, part].flatten(0, 1))
            if progress is not None:
                progress(len(numbers))
    return sorted(found, key=lambda continuation: continuation.prompt)


def _apart(way: Way, bound: int | None, new: int) -> Callable[[int], int]:
    """Of the length of a prompt: prompts for which it differs never share a batch.

    Those that may come to ``bound``, from which on positions are read otherwise, come to it at once.
    """

    def of(length: int) -> int:
        if not way.pads:
            return length
        if bound is None or length + new <= bound:
            return 0
        return length if length <= bound else bound + 1

    return of


def _batches(
    lengths: Sequence[int], samples: int, max_rows: int, apart: Callable[[int], int]
) -> Iterator[tuple[list[int], slice]]:
    """(prompts that are continued together, which samples of each), long prompts first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    together = max(1, max_rows // samples)
    for _, alike in itertools.groupby(order, key=lambda i: apart(lengths[i])):
        group = list(alike)
        for start in range(0, len(group), together):
            chosen = group[start : start + together]
            for done in range(0, samples, max_rows):
                yield chosen, slice(done, min(samples, done + max_rows))
