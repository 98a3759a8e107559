"""Names of keys in other trainers, and what to write for a key that no recipe has.

A name that means exactly what a key here means is read as that key (``SYNONYMS``), and the resolved recipe of
a run shows our name. Names whose meaning differs are listed with what to write, because spelling alone would
not find them. They are those of TRL, alignment-handbook, LLaMA-Factory and Axolotl.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hf_align.config.data import DatasetConfig
from hf_align.config.fields import Spec, key_name, specs_of
from hf_align.errors import did_you_mean


@dataclass(frozen=True)
class Synonym:
    """``key``: ours. ``values``: what their values (in lower case) are here, None for one that changes
    nothing; a value that is not listed is read as it stands, and so are all where there is no list."""

    key: str
    values: Mapping[str, str | None] | None = None


def _all(key: str, *names: str) -> dict[str, Synonym]:
    return dict.fromkeys(names, Synonym(key))


_LOSSES = {"sigmoid": "dpo"}
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


def synonym(name: str, keys: Mapping[str, Spec]) -> Synonym | None:
    """What ``name`` means in a recipe with ``keys``, or None where it is a key itself or means nothing
    there."""
    found = SYNONYMS.get(name) if key_name(name, keys) == name else None
    return found if found is not None and name not in keys and found.key in keys else None


_WRITE: dict[str, tuple[str, ...]] = {
    "beta": ("beta", "kl_coef"),
    "tau": ("beta",),
    "gamma": ("simpo_gamma",),
    "dataset_text_field": ("datasets",),
    "dataset_config": ("datasets",),
    "dataset_train_split": ("datasets",),
    "dataset_test_split": ("eval_datasets",),
    "max_samples": ("datasets",),
    "train_on_inputs": ("train_on",),
    "completion_only_loss": ("train_on",),
    "assistant_only_loss": ("train_on",),
    "truncation_mode": ("overlong",),
    "sample_packing": ("packing",),
    "packing_strategy": ("packing",),
    "padding_free": ("packing",),
    "neat_packing": ("packing",),
    "template": ("chat_template_path",),
    "chat_template": ("chat_template_path",),
    "special_tokens": ("additional_special_tokens",),
    "finetuning_type": ("adapter",),
    "quantization_bit": ("load_in_4bit",),
    "per_device_eval_batch_size": ("max_tokens_per_batch",),
    "precompute_ref_batch_size": ("max_tokens_per_batch",),
    "no_cuda": ("use_cpu",),
    "average_log_prob": ("ipo_reduction",),
    "gamma_beta_ratio": ("simpo_gamma",),
    "max_prompt_length": ("max_length",),
    "centering": ("center_rewards_coefficient",),
    "mini_batch_size": ("num_mini_batches",),
    "use_score_norm": ("normalize_scores",),
    "use_score_scaling": ("normalize_scores",),
    "reward_model_path": ("reward_model",),
    "reward_model_name_or_path": ("reward_model",),
    "gradient_checkpointing_kwargs": ("gradient_checkpointing",),
    "activation_checkpointing": ("gradient_checkpointing",),
}
"""Other trainers' names for which a key here is to be written in another way; the first that the stage
has."""

_SAID = {
    "tf32": "precision: fp32 uses full float32",
    "logging_dir": "metrics go into output_dir",
    "group_by_length": "sequences are packed, so that nothing is gained by it",
    "use_logits_to_keep": "logits are computed for the answers only",
    "num_labels": "a reward model has one score, which needs no key",
    "pad_token": "padding is no token of the loss; a reward model gets a pad token by itself",
    "eos_token": "the tokenizer's own is used; give it in the tokenizer's folder",
    "pad_to_multiple_of": "packed rows take few lengths by themselves",
    "eval_packing": "evaluation is packed as training is",
    "activation_offloading": "there is no such option; gradient_checkpointing saves memory",
    "model_init_kwargs": "there is a key for each, such as dtype and model_revision",
    "dataset_kwargs": "there is a key for each, see the keys of datasets",
    "shuffle_dataset": "rows are shuffled in every epoch",
    "router_aux_loss_coef": "it is read from the model's config.json, with output_router_logits",
    "deepspeed": "give it in an Accelerate configuration (accelerate launch --config_file)",
    "fsdp": "give it in an Accelerate configuration (accelerate launch --config_file)",
    "fsdp_config": "give it in an Accelerate configuration (accelerate launch --config_file)",
    "use_liger_kernel": "there is no such option; the loss is computed in chunks here",
    "remove_unused_columns": "columns that are not read are counted in the data report",
    "do_train": "the command trains",
    "do_eval": "write eval_datasets or eval_split_size",
    "stage": "the stage is the command: hf-align sft, dpo, ppo, …",
    "push_to_hub": "there is no such option; upload the folder with hf upload",
}
"""Names for which there is nothing to write."""


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """The advice that follows ``unknown key.``; an empty string where nothing is near."""
    known = list(keys)
    written = next((name for name in _WRITE.get(key, ()) if name in known), None)
    if written is not None:
        return f" Here: write {written}."
    if key in _SAID:
        return f" Here: {_SAID[key]}."
    if key in specs_of(DatasetConfig) and "datasets" in known:
        return f" '{key}' belongs into an entry of datasets: [{{path: …, {key}: …}}]."
    near = did_you_mean(key, known)
    return near or _of_other_stages(key)


def _of_other_stages(key: str) -> str:
    """Which commands have ``key``, or the key that it is a synonym of."""
    from hf_align.stages import PIPELINE_COMMANDS, recipe_class

    own = SYNONYMS[key].key if key in SYNONYMS else key
    recipes = {command: recipe_class(command).keys() for command in PIPELINE_COMMANDS}
    having = [command for command, keys in recipes.items() if own in keys]
    if not having:
        return ""
    called = "" if own == key else f", called {own},"
    return f" It is a key{called} of: {', '.join(having)}."
