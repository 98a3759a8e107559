"""Importance weights against hand-computed values, and what they do to an expectation."""

from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses import importance_weights, masked_mean

# Ratios 1/2, 2 and 4 in the first answer (their product is 4), 8 in the second, whose second place is empty.
LOGPS = torch.tensor([[0.25, 0.5, 0.8], [0.8, 0.1, 0.1]]).log()
SAMPLED = torch.tensor([[0.5, 0.25, 0.2], [0.1, 0.9, 0.9]]).log()
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("mode", "clip_max", "weights", "limited"),
    [
        ("token_truncate", 3.0, [[0.5, 2, 3], [3, 0, 0]], [[0, 0, 1], [1, 0, 0]]),
        ("token_mask", 3.0, [[0.5, 2, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0]]),
        ("sequence_truncate", 5.0, [[4, 4, 4], [5, 0, 0]], [[0, 0, 0], [1, 0, 0]]),
        ("sequence_mask", 5.0, [[4, 4, 4], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]),
        ("token_truncate", 10.0, [[0.5, 2, 4], [8, 0, 0]], [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_weights_by_hand(mode: str, clip_max: float, weights: list, limited: list) -> None:
    found, was_limited = importance_weights(LOGPS, SAMPLED, MASK, mode=mode, clip_max=clip_max)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(weights, dtype=torch.float32), rtol=1e-5, atol=1e-6)
    assert was_limited.int().tolist() == limited


def test_the_same_probabilities_weigh_one() -> None:
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
        found, limited = importance_weights(LOGPS, LOGPS, MASK, mode=mode, clip_max=1.0)  # type: ignore[arg-type]
        assert torch.equal(found, MASK.float()) and not limited.any()


def test_what_stands_behind_an_answer_is_not_read() -> None:
    empty = MASK == 0
    for filler in (math.inf, -math.inf, math.nan):
        logps, sampled = LOGPS.masked_fill(empty, filler), SAMPLED.masked_fill(empty, -filler)
        for mode in ("token_truncate", "sequence_mask"):
            found, _ = importance_weights(logps, sampled, MASK, mode=mode, clip_max=5.0)  # type: ignore[arg-type]
            expected, _ = importance_weights(LOGPS, SAMPLED, MASK, mode=mode, clip_max=5.0)  # type: ignore[arg-type]
            assert torch.equal(found, expected)


def test_distant_programs_stay_finite() -> None:
    far = torch.tensor([[-1000.0, 0.0]])
    found, _ = importance_weights(-1000 - far, far, torch.ones(1, 2), clip_max=2.0)
    assert found.tolist() == [[2.0, pytest.approx(math.exp(-20))]]


def test_weighted_samples_of_one_distribution_have_the_mean_of_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, server = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.4, 0.4, 0.2])
    worth = torch.tensor([1.0, 5.0, -20.0])
    tokens = torch.multinomial(server, 200_000, replacement=True, generator=generator)[None, :]
    mask = torch.ones(tokens.shape)
    weights, limited = importance_weights(policy.log()[tokens], server.log()[tokens], mask, clip_max=2.0)
    assert not limited.any()
    # 0.6 * 1 + 0.3 * 5 - 0.1 * 20 = 0.1; without weights 0.4 * 1 + 0.4 * 5 - 0.2 * 20 = -1.6
    assert masked_mean(weights * worth[tokens], mask).item() == pytest.approx(0.1, abs=0.05)
    assert masked_mean(worth[tokens], mask).item() == pytest.approx(-1.6, abs=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip_max": 0.0}, "clip_max: found 0.0"),
        ({"mode": "token"}, "mode: found 'token', expected token_truncate"),
        ({"mode": "answer_mask"}, "mode: found 'answer_mask'"),
        ({"mask": torch.ones(2, 1)}, "tensors of one shape"),
    ],
)
def test_refusals(given: dict, message: str) -> None:
    arguments = {"logps": LOGPS, "sampled_logps": SAMPLED, "mask": MASK, "clip_max": 2.0, **given}
    with pytest.raises(ValueError, match=message):
        importance_weights(**arguments)
