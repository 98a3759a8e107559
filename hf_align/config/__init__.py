"""Recipes: YAML files and command-line options, checked strictly and turned into frozen dataclasses.

Every key belongs to exactly one group (``ModelConfig``, ``DataConfig``, …); a stage's recipe
(``SftConfig``) is a dataclass whose fields are groups. Nothing here imports torch, NumPy or transformers,
so that ``--help`` and the report of a configuration error take a fraction of a second.
"""

from hf_align.config.adapter import AdapterConfig
from hf_align.config.best_of_n import BestOfNConfig, BestOfNOptions, parse_best_of_n
from hf_align.config.classify import ClassifyConfig, ClassifyOptions, parse_classify
from hf_align.config.data import DataConfig, DatasetConfig
from hf_align.config.dpo import DpoConfig, PairwiseLossConfig, parse_dpo
from hf_align.config.evaluate import EvaluateConfig, parse_evaluate
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config, load_recipe
from hf_align.config.model import ModelConfig
from hf_align.config.ppo import PpoConfig, PpoOptionsConfig, parse_ppo
from hf_align.config.pretrain import PretrainConfig, parse_pretrain
from hf_align.config.reward import RewardConfig, RewardLossConfig, parse_reward
from hf_align.config.rewards import RewardsConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.sft import SftConfig, parse_sft
from hf_align.config.tokenizer import TokenizerConfig, parse_tokenizer
from hf_align.config.training import TrainingConfig

__all__ = [
    "AdapterConfig",
    "BestOfNConfig",
    "BestOfNOptions",
    "ClassifyConfig",
    "ClassifyOptions",
    "DataConfig",
    "DatasetConfig",
    "DpoConfig",
    "EvaluateConfig",
    "Group",
    "KeyProblem",
    "ModelConfig",
    "PairwiseLossConfig",
    "PpoConfig",
    "PpoOptionsConfig",
    "PretrainConfig",
    "Recipe",
    "RewardConfig",
    "RewardLossConfig",
    "RewardsConfig",
    "SamplesConfig",
    "SftConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "load_config",
    "load_recipe",
    "parse_best_of_n",
    "parse_classify",
    "parse_dpo",
    "parse_evaluate",
    "parse_ppo",
    "parse_pretrain",
    "parse_reward",
    "parse_sft",
    "parse_tokenizer",
]
