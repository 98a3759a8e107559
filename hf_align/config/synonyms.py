"""Names of other trainers that mean exactly what a key here means: they are read as that key.

The resolved recipe of a run shows our names. A name whose meaning differs is not read; ``known_keys`` says
what to write. Names are those of TRL, alignment-handbook, LLaMA-Factory and Axolotl.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Synonym:
    """``key``: ours. ``values``: what their values (in lower case) are here, None for one that changes
    nothing; a value that is not listed is read as it stands, and so are all where there is no list."""

    key: str
    values: Mapping[str, str | None] | None = None


def _all(key: str, *names: str) -> dict[str, Synonym]:
    return dict.fromkeys(names, Synonym(key))


_LOSSES = {"sigmoid": "dpo", "sigmoid_norm": "dpo"}
SYNONYMS: dict[str, Synonym] = {
    **_all("model_name_or_path", "base_model", "model_name", "model_path", "sft_model_path"),
    **_all("tokenizer_name_or_path", "tokenizer_name", "tokenizer_path"),
    **_all("ref_model_name_or_path", "ref_model", "ref_model_path", "model_ref_name_or_path"),
    **_all("datasets", "dataset", "dataset_name", "dataset_path", "train_file", "train_dataset"),
    **_all("eval_datasets", "eval_dataset", "validation_file", "test_datasets"),
    **_all("eval_split_size", "val_set_size", "val_size"),
    **_all("max_length", "max_seq_length", "max_seq_len", "cutoff_len", "sequence_len"),
    **_all("per_device_train_batch_size", "micro_batch_size", "batch_size"),
    **_all("num_train_epochs", "epochs", "num_epochs"),
    **_all("learning_rate", "lr"),
    **_all("lr_scheduler_type", "lr_scheduler", "scheduler"),
    **_all("warmup_steps", "warmup_ratio"),
    **_all("optim", "optimizer"),
    **_all("eval_strategy", "evaluation_strategy"),
    **_all("lora_r", "lora_rank"),
    **_all("lora_target_modules", "lora_target"),
    **_all("modules_to_save", "lora_modules_to_save", "additional_target"),
    **_all("dtype", "torch_dtype"),
    **_all("reward_functions", "reward_funcs"),
    **_all("num_generations", "num_return_sequences", "best_of"),
    **_all("max_new_tokens", "max_completion_length", "response_length"),
    **_all("clip_range", "cliprange"),
    **_all("clip_range_value", "cliprange_value"),
    **_all("kl_coef", "init_kl_coef"),
    **_all("kl_horizon", "horizon"),
    **_all("adaptive_kl", "adap_kl_ctrl"),
    **_all("num_ppo_epochs", "ppo_epochs"),
    **_all("beta", "dpo_beta", "pref_beta"),
    **_all("sft_weight", "rpo_alpha", "pref_ftx"),
    "loss_type": Synonym("loss", _LOSSES),
    "pref_loss": Synonym("loss", _LOSSES),
    "bf16": Synonym("precision", {"true": "bf16", "false": None, "auto": None}),
    "fp16": Synonym("precision", {"true": "fp16", "false": None}),
    "use_peft": Synonym("adapter", {"true": "lora", "false": None}),
}


def synonym(name: str, keys: Collection[str]) -> Synonym | None:
    """What ``name`` means in a recipe with ``keys``, or None where it is a key itself or means nothing
    there."""
    found = SYNONYMS.get(name)
    return found if found is not None and name not in keys and found.key in keys else None
