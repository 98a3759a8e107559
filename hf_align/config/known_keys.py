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
}


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """The advice that follows ``unknown key.``; an empty string where nothing is near."""
    known = list(keys)
    if key in _NAMED_HERE:
        return f" Here: {_NAMED_HERE[key]}."
    if key in specs_of(DatasetConfig):
        return f" '{key}' belongs into an entry of datasets: [{{path: …, {key}: …}}]."
    return did_you_mean(key, known)
