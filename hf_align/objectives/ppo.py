"""One micro-batch of sampled answers: the clipped losses of policy and value, and how far it moved.

Works on target tokens alone, (N,) in the order of the batch; a prompt is computed once for all its answers.
What this leaves out: where advantages come from, and steps (``training.ppo``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hf_align.data.comparison_batches import collate_comparisons
from hf_align.losses import kl_estimate, policy_loss, probability_ratio, value_loss
from hf_align.modeling.inputs import model_inputs
from hf_align.types import Batch, ComparisonRow, LossOutput, TokenizedRow

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EpisodeRow:
    """One prompt with its sampled answers, and what an update needs to know of each of their tokens.

    ``tree``: the prompt and its answers, whose tokens are the targets. ``old_logps`` (N,) in nats and
    ``old_values`` (N,): from before the update. ``advantages`` and ``returns`` (N,). N are the targets of all
    answers, one answer after the other; rewards, values, advantages and returns are in the unit of the score.
    ``weights`` (N,): of the policy loss (``losses.importance``), or None where every token weighs 1.
    """

    tree: ComparisonRow
    old_logps: Floats
    old_values: Floats
    advantages: Floats
    returns: Floats
    weights: Floats | None = None

    def __len__(self) -> int:
        return len(self.tree)

    @property
    def prefix(self) -> npt.NDArray[np.int32]:
        return self.tree.prefix

    @property
    def branches(self) -> tuple[TokenizedRow, ...]:
        return self.tree.branches


@dataclass(frozen=True)
class EpisodeBatch:
    """One micro-batch: ``inputs`` as for any model, the rest (N,) float32 as in :class:`EpisodeRow`.

    ``rows``: what it was made of, in order; all have ``weights``, or none has.
    """

    inputs: Batch
    old_logps: torch.Tensor
    old_values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    rows: tuple[EpisodeRow, ...] = ()
    weights: torch.Tensor | None = None


def collate_episodes(
    rows: Sequence[EpisodeRow], *, packed: bool, share_prefix: bool = True, pad_token_id: int = 0
) -> EpisodeBatch:
    """The answers of all rows, packed with shared prompts or padded. Raises ValueError without rows."""
    trees = [row.tree for row in rows]
    batch = collate_comparisons(trees, packed=packed, share_prefix=share_prefix, pad_token_id=pad_token_id)
    names = ["old_logps", "old_values", "advantages", "returns"]
    names += [] if rows[0].weights is None else ["weights"]
    joined = {name: torch.from_numpy(np.concatenate([getattr(row, name) for row in rows])) for name in names}
    return EpisodeBatch(batch.inputs, **joined, rows=tuple(rows))


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


def empty_episode() -> EpisodeRow:
    """A row that adds nothing to any loss, for a process that has none left."""
    branch = TokenizedRow(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))
    nothing = np.zeros(0, dtype=np.float32)
    tree = ComparisonRow(np.zeros(0, dtype=np.int32), (branch,), np.zeros(1))
    return EpisodeRow(tree, nothing, nothing, nothing, nothing)


@dataclass(frozen=True)
class PpoObjective:
    """``(module, batch)`` to losses summed over the sampled tokens, in the unit of the score.

    L = L_policy + vf_coef * L_value - entropy_coef * H. ``module``: a ``PolicyWithValue``, wrapped or not.
    ``temperature``: that of sampling.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 9.
    """

    clip_range: float
    clip_range_value: float
    vf_coef: float
    entropy_coef: float
    temperature: float

    def __call__(self, module: torch.nn.Module, batch: EpisodeBatch) -> LossOutput:
        losses, figures = self.of_tokens(module, batch)
        return LossOutput(
            loss_sum=losses.sum(),
            count=len(losses),
            metrics={name: tokens.detach().sum() for name, tokens in figures.items()},
        )

    def of_tokens(
        self, module: torch.nn.Module, batch: EpisodeBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each token (N,), and what is logged of them, (N,) each."""
        output = module(
            **model_inputs(batch.inputs),
            temperature=self.temperature,
            with_entropies=self.entropy_coef > 0,
        )
        logps, values = output["logps"], output["estimates"]
        policy = policy_loss(logps, batch.old_logps, batch.advantages, clip_range=self.clip_range)
        if batch.weights is not None:
            policy = batch.weights * policy
        value = value_loss(values, batch.old_values, batch.returns, clip_range=self.clip_range_value)
        losses = policy + self.vf_coef * value
        figures = {"policy_loss": policy, "value_loss": value}
        if self.entropy_coef:
            losses = losses - self.entropy_coef * output["entropies"]
            figures["entropy_loss"] = -output["entropies"]
        with torch.no_grad():
            ratio = probability_ratio(logps, batch.old_logps)
            figures |= {
                "ratio": ratio,
                "ratio_deviation": (ratio - 1).abs(),
                # Of the policy that sampled from the one that is trained, on tokens of the former.
                "approx_kl": kl_estimate(batch.old_logps, logps, kind="k3"),
                "clip_fraction": ((ratio - 1).abs() > self.clip_range).float(),
                "value_clip_fraction": ((values - batch.old_values).abs() > self.clip_range_value).float(),
            }
        return losses, figures
