"""Many continuations of many prompts, with the log-probability of every token that was chosen.

Prompts of similar length are continued together. A prompt is computed once for all its samples; sequences
that have ended leave the batch; keys and values are written in place. What this module leaves out: text,
and streaming one answer (``generation``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.modeling.generation import Sampling
from hf_align.modeling.growing_cache import growing_cache

LEAVE_SHARE = 8
"""Sequences that have ended are taken out once they are one in so many: taking them out copies the rest."""


@dataclass(frozen=True)
class Continuation:
    """One sampled continuation of L tokens.

    ``prompt``: the number of its prompt. ``tokens`` (L,) int32, the one that ended it included. ``logps``
    (L,) float32: log-probability of each in nats under the model at the sampling temperature (at temperature
    0: under the model as it is), before top-k and top-p. ``stopped``: it ended by itself, not at the limit.
    ``values`` (L,) float32: what ``value`` gave for the state before each token, if asked for.
    """

    prompt: int
    tokens: npt.NDArray[np.int32]
    logps: npt.NDArray[np.float32]
    stopped: bool
    values: npt.NDArray[np.float32] | None = None


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
    value: Callable[[torch.Tensor], torch.Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Continuation]:
    """``samples`` continuations of each prompt, ordered by prompt.

    ``model``: a causal language model with a key-value cache, in evaluation mode. ``max_rows``: sequences
    continued together; changes speed and memory, and which random numbers a sequence gets. ``generator``
    draws the tokens; without it torch's global one. ``value``: final states (R, d) to values (R,).
    ``progress`` is called with the number of sequences that a batch finished. Raises ValueError without
    prompts, for an empty one, and for less than one sample or row.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("need at least one prompt, and at least one token in each")
    if samples < 1 or max_rows < 1:
        raise ValueError(f"need at least one sample and one row, got {samples} and {max_rows}")
    found: list[Continuation] = []
    for chosen, copies in _batches([len(prompt) for prompt in prompts], samples, max_rows):
        batch = _Batch(model, [prompts[i] for i in chosen], copies, sampling, stop_ids, pad_token_id, value)
        found += batch.run([i for i in chosen for _ in range(copies)], generator)
        if progress is not None:
            progress(len(chosen) * copies)
    return sorted(found, key=lambda continuation: continuation.prompt)


def _batches(lengths: Sequence[int], samples: int, max_rows: int) -> Iterator[tuple[list[int], int]]:
    """(prompts that are continued together, samples of each), long prompts first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    together = max(1, max_rows // samples)
    for start in range(0, len(order), together):
        chosen = order[start : start + together]
        for done in range(0, samples, max_rows):
            yield chosen, min(max_rows, samples - done)


class _Batch:
    """Sequences that are continued in step; ``alive`` holds those that are still in it."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        copies: int,
        sampling: Sampling,
        stop_ids: Sequence[int],
        pad_token_id: int,
        value: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.copies = copies
        self.pad_token_id = pad_token_id
        self.value = value
        width = max(len(prompt) for prompt in prompts)
        ids = np.full((len(prompts), width), pad_token_id, dtype=np.int64)
        mask = np.zeros((len(prompts), width + sampling.max_new_tokens), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        device = model.device
        self.ids = torch.from_numpy(ids).to(device)
        self.mask = torch.from_numpy(mask).to(device)
        self.padded = any(len(prompt) < width for prompt in prompts)
        self.width = width
        self.stop_ids = torch.tensor(list(stop_ids), dtype=torch.long, device=device)
        self.cache = growing_cache(model.config.get_text_config(), sampling.max_new_tokens)

    def run(self, numbers: Sequence[int], generator: torch.Generator | None) -> list[Continuation]:
        """``numbers``: the prompt of each sequence."""
        rows, limit, device = len(numbers), self.sampling.max_new_tokens, self.ids.device
        tokens = torch.zeros(rows, limit, dtype=torch.int32, device=device)
        logps = torch.zeros(rows, limit, device=device)
        values = torch.zeros(rows, limit, device=device)
        lengths = torch.full((rows,), limit, device=device)
        stopped = torch.zeros(rows, dtype=torch.bool, device=device)
        alive = torch.arange(rows, device=device)
        logits, states = self._prefill()
        for step in range(limit):
            chosen, chosen_logps = choose_tokens(logits, self.sampling, generator)
            running = ~stopped[alive]
            tokens[alive, step] = torch.where(running, chosen, 0).int()
            logps[alive, step] = chosen_logps
            if states is not None and self.value is not None:
                values[alive, step] = self.value(states).float()
            ended = running & torch.isin(chosen, self.stop_ids)
            lengths[alive[ended]] = step + 1
            stopped[alive[ended]] = True
            left = (running & ~ended).nonzero().squeeze(1)
            if not len(left) or step == limit - 1:
                break
            if (len(alive) - len(left)) * LEAVE_SHARE >= len(alive):
                alive, chosen = alive[left], chosen[left]
                self._keep(left)
            logits, states = self._forward(chosen[:, None], self.width + step + 1)
        arrays = [x.cpu().numpy() for x in (tokens, logps, values, lengths, stopped)]
        return [
            Continuation(
                prompt=number,
                tokens=row[: int(length)].copy(),
                logps=row_logps[: int(length)].copy(),
                stopped=bool(done),
                values=None if self.value is None else row_values[: int(length)].copy(),
            )
            for number, row, row_logps, row_values, length, done in zip(numbers, *arrays, strict=True)
        ]

    def _prefill(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        logits, states = self._forward(self.ids, self.width)
        if self.copies > 1:
            self.cache.batch_repeat_interleave(self.copies)
            self.mask = self.mask.repeat_interleave(self.copies, dim=0)
            logits = logits.repeat_interleave(self.copies, dim=0)
            states = None if states is None else states.repeat_interleave(self.copies, dim=0)
        return logits, states

    def _forward(self, ids: torch.Tensor, seen: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits (R, V) after the last of ``seen`` positions and, if values are wanted, its states (R, d)."""
        mask = self.mask[:, :seen]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self.model(
            input_ids=ids,
            attention_mask=mask if self.padded else None,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            output_hidden_states=self.value is not None,
        )
        states = None if self.value is None else output.hidden_states[-1][:, -1]
        return output.logits[:, -1].float(), states

    def _keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]


def choose_tokens(
    logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``logits`` (R, V) float32 to chosen tokens (R,) int64 and their log-probabilities (R,) in nats.

    Temperature 0 takes the likeliest token. Otherwise logits are divided by the temperature, then the
    ``top_k`` likeliest are kept (0: all), then the smallest set of them that holds ``top_p`` of the
    probability. The log-probability is that of the whole distribution at that temperature, which is what a
    policy is trained on.
    """
    if sampling.temperature == 0:
        chosen = logits.argmax(dim=-1)
        scaled = logits
    else:
        scaled = logits / sampling.temperature
        probabilities = torch.softmax(_narrowed(scaled, sampling), dim=-1)
        chosen = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
    logps = scaled.gather(1, chosen[:, None]).squeeze(1) - torch.logsumexp(scaled, dim=-1)
    return chosen, logps


def _narrowed(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = torch.softmax(ordered, dim=-1)
        # A token goes where those before it already hold enough; the likeliest always stays.
        gone = probabilities.cumsum(dim=-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(gone.scatter(1, order, gone), float("-inf"))
    return logits
