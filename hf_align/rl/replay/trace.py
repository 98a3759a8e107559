"""What an update did with each token: its ratio, whether it was clipped, its share of the losses.

Taken from the very numbers that the update computes, so that the shares add up to what was logged. For one
process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hf_align.rl.algorithms.base import TokenObjective, is_loss
from hf_align.rl.episodes import EpisodeBatch, EpisodeRow
from hf_align.rl.update import Numbered

Seen = Callable[[EpisodeBatch, Mapping[str, torch.Tensor]], None]


class TokenTrace:
    """Of the N tokens of a rollout, in the order of ``rows``, which are those of the update.
    ``units``: of the objective, over which its losses are means.

    ``shares``: by the name of a loss the part of each token in its mean over the steps, (N,). ``ratios``:
    when it was last trained on, NaN where it never was. ``passes``: how often it was trained on, and
    ``clipped``: how often its ratio lay outside the clip range then.
    """

    def __init__(self, rows: Sequence[Numbered], units: Callable[[EpisodeRow], int]) -> None:
        self._units = units
        self._rows = [row for _, row in rows]  # kept, so that no other object gets the id of one
        starts = np.cumsum([0, *(row.target_tokens for row in self._rows)])
        self._starts = {id(row): int(start) for row, start in zip(self._rows, starts, strict=False)}
        tokens = int(starts[-1])
        self._sums = {"loss": np.zeros(tokens)}
        self.ratios: npt.NDArray[np.float64] = np.full(tokens, np.nan)
        self.passes: npt.NDArray[np.int64] = np.zeros(tokens, np.int64)
        self.clipped: npt.NDArray[np.int64] = np.zeros(tokens, np.int64)
        self.steps = 0
        self._waiting: list[tuple[tuple[EpisodeRow, ...], dict[str, npt.NDArray[np.float64]]]] = []

    @property
    def shares(self) -> dict[str, npt.NDArray[np.float64]]:
        return {name: sums / max(self.steps, 1) for name, sums in self._sums.items()}

    def seen(self, batch: EpisodeBatch, metrics: Mapping[str, torch.Tensor]) -> None:
        """One micro-batch of the next step."""
        kept = {
            name: tokens.detach().double().cpu().numpy()
            for name, tokens in metrics.items()
            if name in ("ratio", "clip_fraction") or is_loss(name)
        }
        self._waiting.append((batch.rows, kept))

    def taken(self) -> None:
        """The step of the micro-batches so far is taken; those of a step that kl_stop ends are left out."""
        units = max(1, sum(self._units(row) for rows, _ in self._waiting for row in rows))
        for rows, metrics in self._waiting:
            start = 0
            for row in rows:
                end = start + row.target_tokens
                place = self._starts[id(row)]
                here = slice(place, place + end - start)
                for name in filter(is_loss, metrics):
                    sums = self._sums.setdefault(name, np.zeros(len(self.passes)))
                    sums[here] += metrics[name][start:end] / units
                self.ratios[here] = metrics["ratio"][start:end]
                self.clipped[here] += metrics["clip_fraction"][start:end].astype(np.int64)
                self.passes[here] += 1
                start = end
        self._waiting.clear()
        self.steps += 1


@dataclass(frozen=True)
class TracedObjective(TokenObjective):
    """The losses of ``inner``, shown to ``seen`` token by token."""

    inner: TokenObjective
    seen: Seen

    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        losses, metrics = self.inner.of_tokens(module, batch)
        self.seen(batch, {"loss": losses, **metrics})
        return losses, metrics

    @property
    def checks_clipping(self) -> bool:
        """As ``inner``."""
        return self.inner.checks_clipping

    def units(self, row: EpisodeRow) -> int:
        """Those of ``inner``."""
        return self.inner.units(row)
