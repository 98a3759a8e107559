"""What an update did with each token: by hand, for two steps over three tokens."""

from __future__ import annotations

import numpy as np
import torch

from hf_align.rl.episodes import EpisodeBatch, EpisodeRow, answer_tree
from hf_align.rl.replay.trace import TokenTrace


def row(tokens: int) -> EpisodeRow:
    return EpisodeRow(answer_tree([1, 2], [np.arange(tokens, dtype=np.int32)], ""), {})


def batch(*rows: EpisodeRow) -> EpisodeBatch:
    return EpisodeBatch(None, {}, rows)  # type: ignore[arg-type]


def metrics(loss: list[float], ratio: list[float], clipped: list[float]) -> dict[str, torch.Tensor]:
    losses = torch.tensor(loss)
    return {
        "loss": losses,
        "policy_loss": losses / 2,
        "value_loss": losses,
        "ratio": torch.tensor(ratio),
        "clip_fraction": torch.tensor(clipped),
    }


def test_shares_ratios_and_clipping_by_hand() -> None:
    two, one = row(2), row(1)
    trace = TokenTrace([(0, two), (1, one)], EpisodeRow.target_tokens.fget)
    # First step: both rows, in two micro-batches, the second row first.
    trace.seen(batch(one), metrics([6.0], [1.5], [1.0]))
    trace.seen(batch(two), metrics([3.0, 0.0], [1.0, 0.9], [0.0, 0.0]))
    trace.taken()
    # Second step: the first row alone.
    trace.seen(batch(two), metrics([4.0, 2.0], [1.25, 0.5], [0.0, 1.0]))
    trace.taken()
    # A step that kl_stop ended, which was not taken.
    trace.seen(batch(two), metrics([100.0, 100.0], [9.0, 9.0], [1.0, 1.0]))
    # (3/3 + 4/2) / 2, (0/3 + 2/2) / 2, (6/3) / 2
    np.testing.assert_allclose(trace.shares["loss"], [1.5, 0.5, 1.0])
    np.testing.assert_allclose(trace.shares["policy_loss"], [0.75, 0.25, 0.5])
    np.testing.assert_allclose(trace.ratios, [1.25, 0.5, 1.5])
    assert trace.clipped.tolist() == [0, 1, 1] and trace.passes.tolist() == [2, 2, 1]


def test_a_token_that_was_never_trained_on_has_no_ratio() -> None:
    trace = TokenTrace([(0, row(2))], EpisodeRow.target_tokens.fget)
    assert np.isnan(trace.ratios).all() and trace.shares["loss"].tolist() == [0, 0]
