"""Pure functions from tensors to per-example or per-token losses; the caller reduces."""

from hf_align.losses.advantages import generalized_advantage_estimation
from hf_align.losses.anchored import apo_down_loss, apo_zero_loss, nca_pair_loss, sppo_hard_loss
from hf_align.losses.distillation import generalized_jsd
from hf_align.losses.groups import (
    LossType,
    ScaleRewards,
    answer_log_ratios,
    answer_sums,
    counts_answers,
    discounted_returns,
    equal_scores,
    group_deviations,
    group_means,
    group_relative_advantages,
    leave_one_out_advantages,
    loss_weights,
    overlong_penalty,
)
from hf_align.losses.importance import ImportanceMode, importance_weights
from hf_align.losses.kl import kl_estimate
from hf_align.losses.kl_control import AdaptiveKLController, FixedKLController
from hf_align.losses.language_model import negative_log_likelihood, perplexity
from hf_align.losses.log_ratios import F_DIVERGENCES, divergence_scores, log_ratios
from hf_align.losses.masked import masked_mean, masked_whiten
from hf_align.losses.policy import (
    cispo_loss,
    policy_loss,
    probability_ratio,
    reinforce_loss,
    value_loss,
)
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
    "LossType",
    "PairwiseLoss",
    "ScaleRewards",
    "UnpairedLoss",
    "answer_log_ratios",
    "answer_sums",
    "aot_loss",
    "aot_unpaired_loss",
    "apo_down_loss",
    "apo_zero_loss",
    "apo_zero_unpaired_loss",
    "cispo_loss",
    "counts_answers",
    "discopop_loss",
    "discounted_returns",
    "divergence_scores",
    "dpo_loss",
    "equal_scores",
    "exo_pair_loss",
    "explained_variance",
    "generalized_advantage_estimation",
    "generalized_jsd",
    "group_deviations",
    "group_means",
    "group_relative_advantages",
    "hinge_loss",
    "importance_weights",
    "ipo_loss",
    "kl_estimate",
    "kto_loss",
    "leave_one_out_advantages",
    "listwise_ranking_loss",
    "log_ratios",
    "loss_weights",
    "masked_mean",
    "masked_whiten",
    "nca_pair_loss",
    "negative_log_likelihood",
    "orpo_loss",
    "overlong_penalty",
    "pairwise_ranking_loss",
    "perplexity",
    "policy_loss",
    "probability_ratio",
    "reinforce_loss",
    "robust_dpo_loss",
    "simpo_loss",
    "sppo_hard_loss",
    "token_rewards",
    "value_loss",
]
