"""Checks that stages share: whether weights can be trained, and what goes with the adapter and the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hf_align.config.choices.optimizers import LOW_RANK, SCHEDULE_FREE
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import specs_of
from hf_align.config.group import KeyProblem, Recipe
from hf_align.config.local_paths import check_local, check_source

if TYPE_CHECKING:
    from hf_align.config.adapter import AdapterConfig
    from hf_align.config.data import DataConfig
    from hf_align.config.model import ModelConfig
    from hf_align.config.training import TrainingConfig

_MODEL_KEYS = ("model_name_or_path", "tokenizer_name_or_path")


def check_adapter(
    model: ModelConfig, adapter: AdapterConfig, training: TrainingConfig, data: DataConfig | None = None
) -> None:
    """Raise :class:`KeyProblem` where the adapter does not go with the base or with the training loop.

    ``data``: what the model is trained on, where those are its rows as they stand.
    """
    quantised = model.load_in_4bit or model.load_in_8bit
    if adapter.adapter == "qlora" and not model.load_in_4bit:
        raise KeyProblem(
            ("adapter", "load_in_4bit"),
            "qlora is LoRA on a base held in 4 bits; set load_in_4bit: true, or adapter: lora.",
        )
    if quantised and adapter.init_lora_weights in ("pissa", "olora"):
        raise KeyProblem(
            ("init_lora_weights", "load_in_4bit" if model.load_in_4bit else "load_in_8bit"),
            f"{adapter.init_lora_weights} changes the base's weights, which are quantised; leave it out, or "
            "load the base unquantised.",
        )
    if adapter.init_lora_weights == "loftq" and not model.load_in_4bit:
        raise KeyProblem(
            ("init_lora_weights", "load_in_4bit"),
            "loftq corrects the rounding of a base held in 4 bits; set load_in_4bit: true.",
        )
    if training.optim in LOW_RANK and not adapter.trains_base:
        raise KeyProblem(
            ("optim", "adapter"),
            f"{training.optim} projects the gradients of whole weight matrices, and an adapter trains few "
            "other weights; train without an adapter, or take adamw_torch_fused.",
        )
    if data is None and training.optim in (*LOW_RANK, *SCHEDULE_FREE):
        raise KeyProblem(
            ("optim",),
            f"{training.optim} is for training on given rows; here a loop samples between its steps. Take "
            "adamw_torch_fused.",
        )
    if data is None or data.streaming:
        check_rows_are_known(adapter, () if data is None else ("streaming",))
    if adapter.ladder_cache and (data is None or data.streaming):
        raise KeyProblem(
            ("ladder_cache",) if data is None else ("ladder_cache", "streaming"),
            "the model's states are computed before training, for rows that are known then; here they are "
            "made while training. Set it to false.",
        )
    if adapter.ladder_cache and training.neftune_noise_alpha:
        raise KeyProblem(
            ("ladder_cache", "neftune_noise_alpha"),
            "the noise is drawn anew for every batch, and the model's states with it; use one of the two.",
        )
    if adapter.virtual_tokens and training.neftune_noise_alpha:
        raise KeyProblem(
            ("neftune_noise_alpha", "adapter"),
            "the noise follows the length of a sequence, which virtual tokens change, and PEFT embeds the "
            "text behind them by itself; use one of the two.",
        )
    if adapter.adapter == "prefix" and training.gradient_checkpointing:
        raise KeyProblem(
            ("gradient_checkpointing", "adapter"),
            "a prefix reaches the model through its key-value cache, which is not kept for recomputing; "
            "PEFT refuses it. Set it to false, or adapter: prompt.",
        )
    if adapter.adapter == "p_tuning" or adapter.prefix_projection:
        for key in ("resume_from_checkpoint", "load_best_model_at_end"):
            if getattr(training, key):
                raise KeyProblem(
                    (key, "adapter" if adapter.adapter == "p_tuning" else "prefix_projection"),
                    "PEFT saves the virtual tokens and not the network that computes them while training, so "
                    "that training cannot go on from what is saved; leave it out, or take adapter: prompt.",
                )


def check_rows_are_known(adapter: AdapterConfig, others: tuple[str, ...] = ()) -> None:
    """Raise :class:`KeyProblem` where the adapter needs rows that are only made while training.

    ``others``: keys that say so.
    """
    if adapter.init_lora_weights == "eva":
        raise KeyProblem(
            ("init_lora_weights", *others),
            "eva looks at the training rows before training begins; here they are made while training. "
            "Take default, or pissa.",
        )


def check_reference(adapter: AdapterConfig, what: str, instead: str) -> None:
    """Raise :class:`KeyProblem` where the model with its adapter off cannot be the reference.

    ``what``: the method that needs it; ``instead``: what to do.
    """
    if adapter.begins_elsewhere:
        key = "adapter" if adapter.virtual_tokens else "init_lora_weights"
        raise KeyProblem(
            (key,),
            f"{adapter.begins_elsewhere}, so that with the adapter off it is another model than the one "
            f"that training starts from, and {what} takes it for the reference. {instead}",
        )


def check_trainable_weights(model: ModelConfig, adapter: AdapterConfig) -> None:
    """Raise :class:`KeyProblem` where all weights would be trained in a format that cannot be trained."""
    if adapter.adapter != "none":
        return
    for key, quantised in (("load_in_4bit", model.load_in_4bit), ("load_in_8bit", model.load_in_8bit)):
        if quantised:
            raise KeyProblem(
                (key, "adapter"),
                f"quantised weights cannot be trained; set adapter to lora, or {key} to false.",
            )
    if model.dtype == "float16":
        raise KeyProblem(
            ("dtype", "adapter"),
            "float16 weights lose most updates to rounding; train all weights in float32 or bfloat16 "
            "(precision: fp16 computes in float16 and keeps float32 weights).",
        )


class TrainingData(Protocol):
    """What the checks read of the data of any stage."""

    @property
    def eval_datasets(self) -> Sequence[Any]: ...
    @property
    def eval_split_size(self) -> float: ...
    @property
    def streaming(self) -> bool: ...


def check_data_for_training(data: TrainingData, training: TrainingConfig) -> None:
    """Raise :class:`KeyProblem` where the loop needs something that the data do not give."""
    if training.eval_strategy != "no" and not data.eval_datasets and not data.eval_split_size:
        raise KeyProblem(
            ("eval_strategy", "eval_datasets", "eval_split_size"),
            "there is nothing to evaluate on; give eval_datasets or an eval_split_size.",
        )
    if data.streaming and training.max_steps < 1:
        raise KeyProblem(
            ("streaming", "max_steps"), "the length of a stream is unknown; give the number of max_steps."
        )
    for key in ("save_strategy", "eval_strategy"):
        if data.streaming and getattr(training, key) == "epoch":
            raise KeyProblem(
                ("streaming", key), "a stream is one epoch that ends with the run; set it to steps or no."
            )


def check_inputs(recipe: Recipe) -> None:
    """Raise ``UserError`` for the first path to a model or a data set that leads nowhere."""
    for attribute, kind in recipe.groups().items():
        group = getattr(recipe, attribute)
        for key in specs_of(kind):
            value = getattr(group, key)
            if key in _MODEL_KEYS and isinstance(value, str):
                check_local(key, value)
            for entry in value if isinstance(value, list) else ():
                if isinstance(entry, DatasetConfig):
                    check_source(entry.path)
