"""Recipes: YAML files and command-line options, checked strictly and turned into frozen dataclasses.

Every key belongs to exactly one group (``ModelConfig``, ``DataConfig``, …); a stage's recipe is a
dataclass whose fields are groups, and lives in the room of its stage (``hf_align.sft.recipe``).
Nothing here imports torch, NumPy or transformers, so that ``--help`` and the report of a configuration error
take a fraction of a second.
"""

from hf_align.config.adapter import AdapterConfig
from hf_align.config.data import DataConfig, DatasetConfig
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config, load_recipe
from hf_align.config.model import ModelConfig
from hf_align.config.samples import SamplesConfig
from hf_align.config.training import TrainingConfig

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "DatasetConfig",
    "Group",
    "KeyProblem",
    "ModelConfig",
    "Recipe",
    "SamplesConfig",
    "TrainingConfig",
    "load_config",
    "load_recipe",
]
