"""What to write for a key that no recipe has: the nearest valid name, or the name it has here.

Other trainers' names that differ in meaning from ours are listed, because spelling alone would not find them;
those that mean the same are read (``synonyms``).
"""

from __future__ import annotations

from collections.abc import Iterable

from hf_align.config.data import DatasetConfig
from hf_align.config.fields import specs_of
from hf_align.config.synonyms import SYNONYMS
from hf_align.errors import did_you_mean

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
    "router_aux_loss_coef": "there is no such option; router losses are not trained",
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
