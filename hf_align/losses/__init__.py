"""Pure functions from tensors to per-example or per-token losses; the caller reduces."""

from hf_align.losses.advantages import generalized_advantage_estimation
from hf_align.losses.importance import ImportanceMode, importance_weights
from hf_align.losses.kl import kl_estimate
from hf_align.losses.kl_control import AdaptiveKLController, FixedKLController
from hf_align.losses.language_model import negative_log_likelihood, perplexity
from hf_align.losses.masked import masked_mean, masked_whiten
from hf_align.losses.policy import policy_loss, probability_ratio, value_loss
from hf_align.losses.preference import (
    PAIRWISE_LOSSES,
    PairwiseLoss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    log_ratios,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
)
from hf_align.losses.ranking import listwise_ranking_loss, pairwise_ranking_loss
from hf_align.losses.token_rewards import explained_variance, token_rewards
from hf_align.losses.unpaired import UNPAIRED_LOSSES, UnpairedLoss, apo_zero_unpaired_loss, kto_loss

__all__ = [
    "PAIRWISE_LOSSES",
    "UNPAIRED_LOSSES",
    "AdaptiveKLController",
    "FixedKLController",
    "ImportanceMode",
    "PairwiseLoss",
    "UnpairedLoss",
    "apo_zero_unpaired_loss",
    "dpo_loss",
    "explained_variance",
    "generalized_advantage_estimation",
    "hinge_loss",
    "importance_weights",
    "ipo_loss",
    "kl_estimate",
    "kto_loss",
    "listwise_ranking_loss",
    "log_ratios",
    "masked_mean",
    "masked_whiten",
    "negative_log_likelihood",
    "orpo_loss",
    "pairwise_ranking_loss",
    "perplexity",
    "policy_loss",
    "probability_ratio",
    "robust_dpo_loss",
    "simpo_loss",
    "token_rewards",
    "value_loss",
]
