"""What to write for a key that no recipe has: the nearest valid name, or the name it has here.

Other trainers' names that differ from ours, and names that transformers has dropped, are listed, because
spelling alone would not find them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hf_align.config.data import DatasetConfig
from hf_align.config.fields import specs_of
from hf_align.errors import did_you_mean

_NAMED_HERE = {
    "bf16": "write precision: bf16",
    "fp16": "write precision: fp16",
    "tf32": "it follows precision: fp32 uses full float32",
    "torch_dtype": "write dtype",
    "dataset_name": "write datasets",
    "dataset_path": "write datasets",
    "train_file": "write datasets",
    "validation_file": "write eval_datasets",
    "evaluation_strategy": "write eval_strategy",
    "max_seq_length": "write max_length",
    "model_max_length": "write max_length",
    "cutoff_len": "write max_length",
    "use_peft": "write adapter: lora",
    "lora_target": "write lora_target_modules",
    "lora_modules_to_save": "write modules_to_save",
    "batch_size": "write per_device_train_batch_size",
    "per_device_eval_batch_size": "max_tokens_per_batch, which evaluation follows as well",
    "epochs": "write num_train_epochs",
    "lr": "write learning_rate",
    "warmup_ratio": "write warmup_steps with a share below 1",
    "logging_dir": "metrics go into output_dir",
    "group_by_length": "sequences are packed, so that nothing is gained by it",
    "no_cuda": "write use_cpu",
    "completion_only_loss": "write train_on: assistant or all",
    "assistant_only_loss": "write train_on: assistant or all",
    "train_on_inputs": "write train_on: all",
    "loss_type": "write loss",
    "dpo_beta": "write beta",
    "tau": "write beta",
    "pref_beta": "write beta",
    "pref_loss": "write loss",
    "pref_ftx": "write sft_weight",
    "rpo_alpha": "write sft_weight",
    "gamma": "write simpo_gamma",
    "gamma_beta_ratio": "write simpo_gamma, which is not divided by beta",
    "average_log_prob": "write ipo_reduction: mean or sum",
    "ref_model": "write ref_model_name_or_path",
    "ref_model_path": "write ref_model_name_or_path",
    "model_ref_name_or_path": "write ref_model_name_or_path",
    "precompute_ref_batch_size": "max_tokens_per_batch, which the reference follows as well",
    "use_logits_to_keep": "logits are computed for the answers only",
    "padding_free": "sequences are packed by default (packing)",
    "max_prompt_length": "write max_length, the limit for prompt and answer together",
    "centering": "write center_rewards_coefficient",
    "num_labels": "a reward model has one score, which needs no key",
    "pad_token": "a reward model gets a pad token that is not the end-of-sequence token by itself",
    "num_return_sequences": "write num_generations",
    "best_of": "write num_generations",
    "reward_model_path": "write reward_model",
    "response_length": "write max_new_tokens",
    "cliprange": "write clip_range",
    "cliprange_value": "write clip_range_value",
    "init_kl_coef": "write kl_coef",
    "adap_kl_ctrl": "write adaptive_kl",
    "horizon": "write kl_horizon",
    "ppo_epochs": "write num_ppo_epochs",
    "steps_per_generation": "write num_mini_batches, optimizer steps in a pass over a rollout",
    "mini_batch_size": "write num_mini_batches, the parts that a rollout is split into",
    "use_score_norm": "write normalize_scores",
    "use_score_scaling": "write normalize_scores",
    "sft_model_path": "write model_name_or_path; the reference is the model as it is loaded",
    "max_completion_length": "write max_length, the limit for prompt and answer together",
}


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """The advice that follows ``unknown key.``; an empty string where nothing is near."""
    known = list(keys)
    if key in _NAMED_HERE:
        return f" Here: {_NAMED_HERE[key]}."
    if key in specs_of(DatasetConfig):
        return f" '{key}' belongs into an entry of datasets: [{{path: …, {key}: …}}]."
    return did_you_mean(key, known)
