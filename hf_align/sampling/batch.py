"""Sequences that are continued in step: their prompts are read once, then a token each at a time.

Sequences that have ended leave the batch; keys and values are written in place. What this leaves out: which
prompts make a batch (``continuations``), and which of the ways to continue them a model can go (``ways``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache

from hf_align.data.packing import pack_rows, to_device
from hf_align.modeling.few_shapes import few_length
from hf_align.modeling.growing_cache import (
    GrowingLayer,
    cache_keyword,
    check_written,
    growing_cache,
    grows_everywhere,
    pick_rows,
)
from hf_align.modeling.inputs import model_inputs
from hf_align.sampling.decoding import DecodingSupport, SharedPrompts
from hf_align.sampling.options import Sampling
from hf_align.sampling.token_choice import check_finite, choose_tokens
from hf_align.types import TokenizedRow

LEAVE_SHARE = 8
"""Sequences that have ended are taken out once they are one in so many: taking them out copies the rest."""


@dataclass(frozen=True)
class Continuation:
    """One sampled continuation of L tokens.

    ``prompt``: the number of its prompt. ``tokens`` (L,) int32, the one that ended it included. ``logps``
    (L,) float32: log-probability of each in nats under the model at the sampling temperature (at temperature
    0: under the model as it is), before top-k and top-p. ``stopped``: it ended by itself, not at the limit.
    """

    prompt: int
    tokens: npt.NDArray[np.int32]
    logps: npt.NDArray[np.float32]
    stopped: bool


@dataclass(frozen=True)
class Way:
    """How sequences are continued together.

    ``shares``: samples read the keys of their prompt where they lie, where attention can. ``moves``: a prompt
    is read once and its cache copied for every sample, and sequences that have ended leave the cache; without
    it every sample reads its prompt by itself, and what a cache holds stays where it is. ``pads``: prompts of
    unequal length go together. ``together``: several sequences do.
    """

    shares: bool = True
    moves: bool = True
    pads: bool = True
    together: bool = True


class SequenceBatch:
    """``alive`` in :meth:`run` holds the sequences that are still in it.

    ``prompts``: one for every sample where the ``way`` does not move caches, else one for all its samples.
    ``bound``: the length from which on positions are read otherwise, so that all is read anew there; prompts
    that come to it are of equal length.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        stop_ids: Sequence[int],
        pad_token_id: int,
        *,
        way: Way,
        able: DecodingSupport,
        bound: int | None = None,
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.way, self.able, self.bound = way, able, bound
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
        self.cache = self._new_cache()
        self.cache_keyword = cache_keyword(model)
        self.prompts: SharedPrompts | None = None

    def run(self, numbers: Sequence[int], draws: torch.Tensor) -> list[Continuation]:
        """``numbers``: the prompt of each sequence. ``draws`` (sequences, limit)."""
        rows, limit, device = len(numbers), self.sampling.max_new_tokens, self.ids.device
        copies = rows // len(self.ids)
        tokens = torch.zeros(rows, limit, dtype=torch.int32, device=device)
        logps = torch.zeros(rows, limit, device=device)
        lengths = torch.full((rows,), limit, device=device)
        stopped = torch.zeros(rows, dtype=torch.bool, device=device)
        alive = torch.arange(rows, device=device)
        draws = draws.to(device)
        logits = self.prefill(copies)
        for step in range(limit):
            chosen, chosen_logps = choose_tokens(logits, self.sampling, draws[alive, step])
            running = ~stopped[alive]
            tokens[alive, step] = torch.where(running, chosen, 0).int()
            logps[alive, step] = chosen_logps
            ended = running & torch.isin(chosen, self.stop_ids)
            lengths[alive[ended]] = step + 1
            stopped[alive[ended]] = True
            going = running & ~ended
            if not (count := int(going.sum())) or step == limit - 1:
                break
            left = _that_go_on(going, count)
            if self.way.moves and (len(alive) - len(left)) * LEAVE_SHARE >= len(alive):
                alive, chosen = alive[left], chosen[left]
                self.keep(left)
            if self.bound is not None and self.width + step == self.bound:
                written = tokens[alive, : step + 1].long()
                logits = self._anew(torch.cat([self.ids[alive // copies], written], dim=1))
            else:
                logits = self.next(chosen[:, None], step)
        check_finite(logps)
        arrays = [x.cpu().numpy() for x in (tokens, logps, lengths, stopped)]
        return [
            Continuation(
                prompt=number,
                tokens=row[: int(length)].copy(),
                logps=row_logps[: int(length)].copy(),
                stopped=bool(done),
            )
            for number, row, row_logps, length, done in zip(numbers, *arrays, strict=True)
        ]

    def prefill(self, copies: int) -> torch.Tensor:
        """Logits (R, V) after the prompts, with ``copies`` sequences of each."""
        if self.width == 1 and not self.way.moves and isinstance(self.model, torch.nn.Module):
            # A model that keeps states in itself takes a single token for the next one of what it read last;
            # a pass without a cache ends that.
            self.model(input_ids=self.ids, use_cache=False)
        packs = self.able.packs and self.way.shares and grows_everywhere(self.cache)
        logits = self._packed() if packs else self._forward(self.ids, self.width)
        check_written(self.model, self.cache)
        if copies > 1 and self.able.shares and self.way.shares and grows_everywhere(self.cache):
            layers: list[Any] = list(self.cache.layers)
            self.prompts = SharedPrompts(
                # Rotated keys of a model in float32 are float32 under autocast, where its values are not.
                keys=[layer.keys.to(layer.values.dtype).contiguous() for layer in layers],
                values=[layer.values.contiguous() for layer in layers],
                hidden=~self.mask[:, : self.width].bool() if self.padded else None,
                prompt_of_row=torch.arange(len(self.ids), device=self.ids.device).repeat_interleave(copies),
            )
            # What the sequences are going to write lies apart.
            self.cache = self._new_cache()
        elif copies > 1:
            prompts = torch.arange(len(self.ids), device=self.ids.device)
            pick_rows(self.cache, prompts.repeat_interleave(copies))
        if copies > 1:
            self.mask = self.mask.repeat_interleave(copies, dim=0)
            logits = logits.repeat_interleave(copies, dim=0)
        return logits

    def next(self, ids: torch.Tensor, step: int) -> torch.Tensor:
        """Logits (R, V) after the tokens ``ids`` (R, 1) that were chosen in ``step``."""
        found = self._forward(ids, self.width + step + 1)
        prompts = self.prompts
        if step == 0 and prompts is not None and len(prompts.layers_used) < len(prompts.keys):
            # Some layer attends without the function that was registered: give it all keys, as usual.
            self.prompts = None
            self.cache = self._new_cache(len(prompts.keys))
            for layer, (keys, values) in enumerate(zip(prompts.keys, prompts.values, strict=True)):
                self.cache.update(keys[prompts.prompt_of_row], values[prompts.prompt_of_row], layer)
            found = self._forward(ids, self.width + step + 1)
        return found

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these ``rows`` (R,) alone."""
        pick_rows(self.cache, rows)
        self.mask = self.mask[rows]
        if self.prompts is not None:
            self.prompts.keep(rows)

    def _anew(self, ids: torch.Tensor) -> torch.Tensor:
        """As :meth:`next`, for whole sequences (R, T) of equal length, which are read from the beginning."""
        self.prompts, self.cache = None, self._new_cache()
        return self._forward(ids, ids.shape[1])

    def _packed(self) -> torch.Tensor:
        """As :meth:`_forward`, with the prompts side by side instead of padded."""
        real = self.mask[:, : self.width].bool()
        ids = [row[seen].cpu().numpy().astype(np.int32) for row, seen in zip(self.ids, real, strict=True)]
        packed = pack_rows([TokenizedRow(row, np.zeros(len(row), dtype=bool)) for row in ids])
        inputs = model_inputs(to_device(packed, self.ids.device))
        del inputs["shift_labels"]
        last = inputs["segments"].cu_seqlens[1:].long() - 1
        output = self.model(
            **inputs,
            **{self.cache_keyword: self.cache},
            use_cache=True,
            logits_to_keep=last,
        )
        written, self.cache = self.cache, self._new_cache(len(self.cache.layers))
        for number, layer in enumerate(written.layers):
            prompts = (x[:, :, : packed.tokens] for x in (layer.keys, layer.values))
            self.cache.update(*(_by_prompt(x, real) for x in prompts), number)
        return output.logits[0].float()

    def _new_cache(self, layers: int = 0) -> DynamicCache:
        """``layers``: how many there have to be; a ladder keeps its own behind those of the model."""
        cache = growing_cache(self.model.config.get_text_config(), self.sampling.max_new_tokens)
        more = range(layers - len(cache.layers))
        cache.layers += [GrowingLayer(self.sampling.max_new_tokens) for _ in more]
        return cache

    def _forward(self, ids: torch.Tensor, seen: int) -> torch.Tensor:
        """Logits (R, V) after the last of ``seen`` positions."""
        mask = self.mask[:, :seen]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        cache = {self.cache_keyword: self.cache}
        shared = {} if self.prompts is None else {"shared_prompts": self.prompts}
        output = self.model(
            input_ids=ids,
            attention_mask=mask if self.padded and self.prompts is None else None,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **cache,
            **shared,
        )
        return output.logits[:, -1].float()


def _that_go_on(going: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers of the ``count`` rows where ``going`` (R,) bool, and of others that make them one of few
    counts: what is compiled for a count serves again."""
    kept = min(len(going), few_length(count, LEAVE_SHARE, 1))
    return going.int().argsort(descending=True, stable=True)[:kept].sort().values


def _by_prompt(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Packed ``states`` (1, G, T, D) to (P, G, W, D), zero where ``real`` (P, W) bool is False."""
    _, groups, _, size = states.shape
    rows = states.new_zeros(*real.shape, groups, size)
    rows[real] = states[0].transpose(0, 1)
    return rows.transpose(1, 2)
