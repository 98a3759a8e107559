"""The models of a PPO run: the policy with its values, and the reference that it is held near to.

The reference is the policy with its adapter switched off, or a frozen copy where all weights are trained.
What this leaves out: rewards (``rewards``).
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers

from hf_align.adapters.factory import apply_adapter
from hf_align.errors import UserError
from hf_align.modeling.dropout import disable_dropout
from hf_align.modeling.generation import context_length
from hf_align.modeling.loading import check_vocabulary, load_model
from hf_align.modeling.reward_head import install_reward_head, reads_last_token
from hf_align.modeling.reward_model import head_modules, load_reward_base
from hf_align.modeling.stopping import stop_token_ids
from hf_align.modeling.target_head import install_target_head
from hf_align.modeling.value_head import PolicyWithValue, ValueHead, trunk_width
from hf_align.training import launch, trained_model

if TYPE_CHECKING:
    from hf_align.config.ppo import PpoConfig
    from hf_align.data.prompts import Prompt
    from hf_align.training.stage import Run


@dataclass(frozen=True)
class PpoModels:
    """``module``: what is trained. ``reference``: a frozen model with a target head, or None: the policy with
    its adapter switched off.

    ``packed`` and ``shared``: how batches look (``comparison_batches``). ``stop_ids``: what ends an answer.
    """

    module: PolicyWithValue
    reference: torch.nn.Module | None
    packed: bool
    shared: bool
    stop_ids: list[int]
    pad_token_id: int

    @property
    def policy(self) -> Any:
        return self.module.policy


def build_models(run: Run) -> PpoModels:
    """Load, adapt and freeze what the recipe names; run.json says what came of it.

    Raises UserError where a model cannot be loaded, or does not fit the tokenizer.
    """
    config: PpoConfig = run.config
    base = trained_model.load_base(run, load_model)
    check_vocabulary(base, run.tokenizer)
    disable_dropout(base)
    packed = config.data.packing and launch.enable_segment_attention(base)
    shared = packed and launch.shares_prefixes(base)
    install_target_head(base)
    reference = None
    if config.adapter.trains_base:
        # Before anything is trained, and in the same number format: both give the same at the start.
        reference = copy.deepcopy(base).eval().requires_grad_(False)
    policy = trained_model.adapted(run, base, config.adapter, apply_adapter)
    value: torch.nn.Module
    if config.ppo.value_model == "separate":
        value, value_packed, value_shared = _second_model(run)
        packed, shared = packed and value_packed, shared and value_shared
    else:
        value = ValueHead(trunk_width(base), config.ppo.value_head_init)
    for model in (policy, value):
        if config.training.gradient_checkpointing and isinstance(model, _checkpointed()):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    run.record.update(
        model=run.record.content["model"] | {"attention": "segments" if packed else "padded"},
        reference={
            "kind": "frozen copy" if reference is not None else "adapter switched off",
            "model": config.model.model_name_or_path,
        },
    )
    return PpoModels(
        PolicyWithValue(policy, value),
        reference,
        packed,
        shared,
        stop_token_ids(base, run.tokenizer),
        int(run.tokenizer.pad_token_id),
    )


def check_room(prompts: list[Prompt], models: PpoModels, run: Run) -> None:
    """Raise UserError where a prompt leaves no room for ``max_new_tokens`` in the model's positions."""
    limit = context_length(models.policy, run.tokenizer)
    if limit is None or not prompts:
        return
    longest = max(prompts, key=lambda prompt: len(prompt.ids))
    asked = run.config.ppo.max_new_tokens
    if len(longest.ids) + asked > limit:
        raise UserError(
            f"max_new_tokens: the prompt of {longest.example.source} has {len(longest.ids):,} tokens; with "
            f"{asked:,} more it exceeds the {limit:,} positions that the model was made for. Lower "
            "max_new_tokens, or leave out long rows (max_length with overlong: drop)."
        )


def _second_model(run: Run) -> tuple[torch.nn.Module, bool, bool]:
    """(a model of its own for values, whether it can be packed, whether it can share prompts)."""
    config: PpoConfig = run.config
    name = config.ppo.value_model_name_or_path
    settings = config.model
    if name is not None:
        settings = dataclasses.replace(settings, model_name_or_path=name, model_revision=None)
    try:
        base = load_reward_base(
            settings,
            trainable_base=config.adapter.trains_base,
            precision=run.machine.precision,
            use_cpu=run.machine.use_cpu,
            head_init=config.ppo.value_head_init,
        )
        if not reads_last_token(base):
            raise UserError(
                f"model_name_or_path: '{settings.model_name_or_path}' is no decoder; values are read before "
                "every token, from what comes before it"
            )
        check_vocabulary(base, run.tokenizer)
    except UserError as error:
        key = "model_name_or_path" if name is None else "value_model_name_or_path"
        raise UserError(f"{key}: {str(error).removeprefix('model_name_or_path: ')}") from error
    disable_dropout(base)
    packed = config.data.packing and launch.enable_segment_attention(base)
    shared = packed and launch.shares_prefixes(base)
    install_reward_head(base)
    model = apply_adapter(base, config.adapter, task_type="SEQ_CLS", head=head_modules(base))
    return model, packed, shared


def _checkpointed() -> tuple[type[Any], ...]:
    """Classes that can recompute their activations."""
    from peft import PeftModel

    return (transformers.PreTrainedModel, PeftModel)
