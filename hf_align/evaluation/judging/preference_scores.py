"""Whether a model orders compared answers as the data do: by a reward, or by how likely it finds them.

Accuracies, calibration and the like are in ``calibration``; what a reward model makes of a model's own
answers is in ``win_rate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.config.data import DataConfig, DatasetConfig
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.batches import numbered_pairs
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.data.pipeline import DataSource, check_shares, kept_rows
from hf_align.data.report import SourceReport
from hf_align.errors import UserError
from hf_align.evaluation.scoring import Scorer
from hf_align.sampling.options import context_length
from hf_align.saved_models.reward_scoring import RewardModel, score_rows
from hf_align.statistics.calibration import accuracy, reward_evaluation, wilson_interval
from hf_align.types import ComparisonRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Items = npt.NDArray[np.float64]


def read_comparisons(
    dataset: DatasetConfig, tokenizer: PreTrainedTokenizerBase, model: Any
) -> list[ComparisonRow]:
    """The compared answers of a source in their order, tokenised as in training.

    Raises UserError where rows cannot be read or are longer than the model's context.
    """
    limit = context_length(model, tokenizer) or 2**31
    data = DataConfig(
        [dataset], max_length=limit, require_end_of_turn=False, add_eos=tokenizer.eos_token_id is not None
    )
    encoder = make_encoder(tokenizer, train_on="assistant", add_eos=data.add_eos, require_end_of_turn=False)
    report = SourceReport(dataset.path)
    rows = [row for row, _ in kept_rows(DataSource(dataset, data, ComparisonEncoder(encoder), report))]
    check_shares(report, data, settable=False)
    if report.overlong:
        raise UserError(
            f"{dataset.path}: {report.overlong} of {report.read} rows are longer than the model's context of "
            f"{limit} tokens; the longest has {report.longest}, at {report.longest_place}. Leave them out of "
            "the file, or measure a model with a longer context"
        )
    found = [row for row in rows if row.pairs()]
    if not found:
        raise UserError(f"{dataset.path}: there is no row in which one answer is better than another")
    return found


def reward_preferences(
    reward: RewardModel, rows: Sequence[ComparisonRow], *, max_tokens: int = 4096
) -> tuple[dict[str, Any], Items]:
    """(metrics of a reward model, (rows, 2) the share of each row's pairs in the right order beside a 1).

    Those of ``calibration.reward_evaluation``, with ``mean_reward`` over all answers.
    """
    scores = score_rows(reward, rows, max_tokens=max_tokens).astype(np.float64)
    lengths = np.array([branch.target_tokens for row in rows for branch in row.branches])
    margins, differences, weights = _pairs(rows, scores, lengths)
    metrics = reward_evaluation(margins, weights, differences, scores=scores, lengths=lengths)
    metrics["mean_reward"] = float(scores.mean())
    return metrics, _items(rows, margins > 0)


def likelihood_preferences(
    scorer: Scorer, rows: Sequence[ComparisonRow], progress: Callable[[int], None] | None = None
) -> tuple[dict[str, Any], Items]:
    """As :func:`reward_preferences`, for a language model: the chosen answer is to be likelier per token.

    ``accuracy`` is by the mean log-probability per token, ``accuracy_by_sums`` by the sum, which favours
    short answers; ``mean_margin`` is in nats per token.
    """
    logps = scorer.branches(rows, progress)
    sums = np.array([math.fsum(part.tolist()) for parts in logps for part in parts])
    lengths = np.array([branch.target_tokens for row in rows for branch in row.branches])
    margins, _, weights = _pairs(rows, sums / lengths, lengths)
    by_sums, _, _ = _pairs(rows, sums, lengths)
    share = accuracy(margins, weights)
    metrics = {
        "pairs": len(margins),
        "prompts": len(rows),
        "accuracy": share,
        "accuracy_interval": list(wilson_interval(share, len(rows))),
        "accuracy_by_sums": accuracy(by_sums, weights),
        "mean_margin": float((margins * weights).sum() / weights.sum()),
    }
    return metrics, _items(rows, margins > 0)


def _pairs(
    rows: Sequence[ComparisonRow], scores: npt.NDArray[np.float64], lengths: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(margins, differences of length, weights) of all pairs, each (Q,); a row's weights add up to 1."""
    chosen, rejected, weights, _ = numbered_pairs(rows)
    return (
        scores[chosen] - scores[rejected],
        (lengths[chosen] - lengths[rejected]).astype(float),
        np.array(weights),
    )


def _items(rows: Sequence[ComparisonRow], right: npt.NDArray[np.bool_]) -> Items:
    shares = [part.mean() for part in np.split(right, np.cumsum([len(row.pairs()) for row in rows])[:-1])]
    return np.array([[share, 1.0] for share in shares])
