"""Sampled answers: what is known of each, as rows of an update and as its batches.

A prompt is computed once for all its answers. What this leaves out: how answers are sampled and measured
(``rollout``), and what an update computes (``algorithms``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.types import Batch, ComparisonRow, TokenizedRow

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt

Floats = npt.NDArray[np.float32]


@dataclass
class Episode:
    """One sampled answer of L tokens, and what is known of it.

    ``prompt``: the number of its prompt in the rollout. ``tokens`` (L,) int32, the one that ended it
    included; ``text``: what they say (``sampling.answers``). ``stopped``: it ended by itself. ``reward``: the
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
class EpisodeRow:
    """One prompt with its sampled answers, and what an update needs to know of each of their tokens.

    ``tree``: the prompt and its answers, whose tokens are the targets. ``columns``: arrays (N,) by name, N
    being the targets of all answers, one answer after the other: ``old_logps`` in nats, from before the
    update, ``advantages``, and what else the algorithm asks for.
    """

    tree: ComparisonRow
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.tree)

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.tree.lengths

    @property
    def prefix(self) -> npt.NDArray[np.int32]:
        return self.tree.prefix

    @property
    def branches(self) -> tuple[TokenizedRow, ...]:
        return self.tree.branches

    @property
    def target_tokens(self) -> int:
        return self.tree.target_tokens


@dataclass(frozen=True)
class EpisodeBatch:
    """One micro-batch: ``inputs`` as for any model, ``columns`` (N,) float32 as in :class:`EpisodeRow`.

    ``rows``: what it was made of, in order.
    """

    inputs: Batch
    columns: dict[str, torch.Tensor]
    rows: tuple[EpisodeRow, ...] = ()


def collate_episodes(
    rows: Sequence[EpisodeRow], *, packed: bool, share_prefix: bool = True, pad_token_id: int = 0
) -> EpisodeBatch:
    """The answers of all rows, packed with shared prompts or padded; all have the same columns.

    Raises ValueError without rows.
    """
    trees = [row.tree for row in rows]
    batch = collate_comparisons(trees, packed=packed, share_prefix=share_prefix, pad_token_id=pad_token_id)
    columns = {
        name: torch.from_numpy(np.concatenate([row.columns[name] for row in rows]))
        for name in rows[0].columns
    }
    return EpisodeBatch(batch.inputs, columns, tuple(rows))


def answer_tree(
    prompt: Sequence[int], answers: Sequence[npt.NDArray[np.int32]], source: str = ""
) -> ComparisonRow:
    """A prompt and answers to it, of at least one token, as a tree whose targets are the answers."""
    ids = np.asarray(prompt, dtype=np.int32)
    # A single answer is one sequence; several share all of the prompt but its last token.
    shared = len(ids) - 1 if len(answers) > 1 else 0
    branches = []
    for answer in answers:
        branch = np.concatenate([ids[shared:], answer.astype(np.int32)])
        mask = np.arange(len(branch)) >= len(ids) - shared
        branches.append(TokenizedRow(branch, mask, source))
    return ComparisonRow(ids[:shared], tuple(branches), np.zeros(len(branches)), source=source)


def empty_episode(columns: Iterable[str]) -> EpisodeRow:
    """A row with these columns that adds nothing to any loss, for a process that has none left."""
    branch = TokenizedRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
    tree = ComparisonRow(np.zeros(0, dtype=np.int32), (branch,), np.zeros(1))
    return EpisodeRow(tree, {name: np.zeros(0, dtype=np.float32) for name in columns})


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
    columns: Mapping[str, torch.Tensor],
) -> list[tuple[int, EpisodeRow]]:
    """(number of the prompt, row) for this process's ``trees``.

    ``columns`` (B, T) by name belong to ``episodes`` (B), those of all processes.
    """
    places: dict[int, list[int]] = {}
    for place, episode in enumerate(episodes):
        places.setdefault(episode.prompt, []).append(place)

    def joined(table: torch.Tensor, number: int) -> Floats:
        return np.concatenate([table[i, : len(episodes[i].tokens)].numpy() for i in places[number]])

    return [
        (number, EpisodeRow(tree, {name: joined(table, number) for name, table in columns.items()}))
        for number, tree, _ in trees
    ]
