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

from hf_align.errors import UserError
from hf_align.modeling.checkpointing import enable_checkpointing
from hf_align.modeling.heads.reward import install_reward_head, reads_last_token
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.loading import check_vocabulary, load_model
from hf_align.modeling.reward_model import load_reward_base
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.record import PpoRecord, Reference
from hf_align.rl.value_head import PolicyWithValue, ValueHead, trunk_width
from hf_align.runs.schema import Model
from hf_align.sampling.options import context_length
from hf_align.sampling.stopping import stop_token_ids
from hf_align.training.build import LAYOUTS, Layout, build_model, make_ready, may_pack, with_trained_head

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt
    from hf_align.rl.recipe import PpoConfig
    from hf_align.training.run import Run


@dataclass(frozen=True)
class PpoModels:
    """``module``: what is trained. ``reference``: a frozen model with a target head, or None: the policy with
    its adapter switched off.

    ``packed`` and ``shared``: how batches look (``data.comparisons.batches``). ``stop_ids``: what ends an
    answer.
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
    reference = None

    def freeze_a_copy(base: Any, layout: Layout) -> None:
        nonlocal reference
        if config.adapter.trains_base:
            # Before anything is trained, and in the same number format: both give the same at the start.
            reference = copy.deepcopy(base).eval().requires_grad_(False)

    built = build_model(
        run,
        load_model,
        install_target_head,
        check=lambda run, base: check_vocabulary(base, run.tokenizer),
        share=True,
        dropout=False,
        before_training=freeze_a_copy,
    )
    base, policy, layout = built.base, built.model, built.layout
    value, of_value = _value_model(run, base, layout)
    layout = max(layout, of_value, key=LAYOUTS.index)
    for model in (policy, value):
        if config.training.gradient_checkpointing and isinstance(model, _checkpointed()):
            enable_checkpointing(model)
    run.record.update_model(Model(attention="padded" if layout == "padded" else "segments"))
    kind = "frozen copy" if reference is not None else "adapter switched off"
    run.record.update(PpoRecord(reference=Reference(kind=kind, model=config.model.model_name_or_path)))
    return PpoModels(
        PolicyWithValue(policy, value),
        reference,
        layout != "padded",
        layout == "shared",
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


def _value_model(run: Run, base: Any, layout: Layout) -> tuple[torch.nn.Module | None, Layout]:
    """(what values come from, None where the algorithm has none; how its batches look)."""
    options = run.config.ppo
    if not ALGORITHMS[options.algorithm].has_values:
        return None, layout
    if options.value_model == "separate":
        return _second_model(run)
    return ValueHead(trunk_width(base), options.value_head_init), layout


def _second_model(run: Run) -> tuple[torch.nn.Module, Layout]:
    """(a model of its own for values, how its batches look)."""
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
    layout = make_ready(base, install_reward_head, pack=may_pack(config), share=True, dropout=False)
    return with_trained_head(base, config.adapter), layout


def _checkpointed() -> tuple[type[Any], ...]:
    """Classes that can recompute their activations."""
    from peft import PeftModel

    return (transformers.PreTrainedModel, PeftModel)
