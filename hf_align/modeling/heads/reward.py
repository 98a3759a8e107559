"""The score of an answer: the one logit of a sequence classifier, read by ``sequence``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_align.modeling.heads.sequence import install_sequence_head, reads_last_token


@dataclass
class RewardOutput(ModelOutput):
    """``scores`` (A,) float32: the reward of each sequence, differentiable."""

    scores: torch.Tensor | None = None


def install_reward_head(model: PreTrainedModel) -> None:
    """Teach ``model.forward`` the keyword ``last_tokens`` (A,) int64; it then returns :class:`RewardOutput`.

    ``model``: a sequence classifier with one label; see :func:`install_sequence_head`.
    """
    install_sequence_head(model, _one_score)


def _one_score(logits: torch.Tensor) -> RewardOutput:
    return RewardOutput(scores=logits[:, 0])


__all__ = ["RewardOutput", "install_reward_head", "reads_last_token"]
