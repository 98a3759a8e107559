"""Pure functions from tensors to per-example or per-token losses; the caller reduces."""

from hf_align.losses.advantages import generalized_advantage_estimation
from hf_align.losses.anchored import apo_down_loss, apo_zero_loss, nca_pair_loss, sppo_hard_loss
from hf_align.losses.importance import ImportanceMode, importance_weights
from hf_align.losses.kl import kl_estimate
from hf_align.losses.kl_control import AdaptiveKLController, FixedKLController
from hf_align.losses.language_model import negative_log_likelihood, perplexity
from hf_align.losses.log_ratios import F_DIVERGENCES, divergence_scores, log_ratios
from hf_align.losses.masked import masked_mean, masked_whiten
from hf_align.losses.policy import policy_loss, probability_ratio, value_loss
from hf_align.losses.preference import (
    PAIRWISE_LOSSES,
    PairwiseLoss,
    discopop_loss,
    dpo_loss,
    exo_pair_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
)
from hf_align.losses.ranking import listwise_ranking_loss, pairwise_ranking_loss
from hf_align.losses.token_rewards import explained_variance, token_rewards
from hf_align.losses.transport import aot_loss, aot_unpaired_loss
from hf_align.losses.unpaired import UNPAIRED_LOSSES, UnpairedLoss, apo_zero_unpaired_loss, kto_loss

__all__ = [
    "F_DIVERGENCES",
    "PAIRWISE_LOSSES",
    "UNPAIRED_LOSSES",
    "AdaptiveKLController",
    "FixedKLController",
    "ImportanceMode",
    "PairwiseLoss",
    "UnpairedLoss",
    "aot_loss",
    "aot_unpaired_loss",
    "apo_down_loss",
    "apo_zero_loss",
    "apo_zero_unpaired_loss",
    "discopop_loss",
    "divergence_scores",
    "dpo_loss",
    "exo_pair_loss",
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
    "nca_pair_loss",
    "negative_log_likelihood",
    "orpo_loss",
    "pairwise_ranking_loss",
    "perplexity",
    "policy_loss",
    "probability_ratio",
    "robust_dpo_loss",
    "simpo_loss",
    "sppo_hard_loss",
    "token_rewards",
    "value_loss",
]
