"""The parts of a PPO update on a tiny random model, without a run around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.tiny_models import VOCABULARY, tiny_model

from hf_align.data.chat.prompts import Prompt
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.rl.algorithms.table import ALGORITHMS
from hf_align.rl.episodes import Episode
from hf_align.rl.grpo.recipe import GrpoOptionsConfig
from hf_align.rl.models import PpoModels
from hf_align.rl.recipe import PpoOptionsConfig
from hf_align.rl.rollout import RolloutTools
from hf_align.rl.update import UpdateTools
from hf_align.rl.value_head import PolicyWithValue, ValueHead
from hf_align.types import Example

STOP, PAD = 2, 0


class Words:
    """A tokenizer that decodes ids to their numbers."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(str(i) for i in ids if not (skip_special_tokens and i == STOP))


def models(
    *,
    packed: bool = True,
    shared: bool = True,
    seed: int = 0,
    family: str = "llama",
    values: bool = True,
) -> PpoModels:
    """A policy, its frozen copy, and a value head whose values differ, if any."""
    policy, reference = tiny_model(family, seed=seed), tiny_model(family, seed=seed)
    for model in (policy, reference):
        if packed:
            assert enable_segment_attention(model)
        install_target_head(model)
    torch.manual_seed(1)
    module = PolicyWithValue(policy, ValueHead(32, "normal") if values else None).eval()
    return PpoModels(module, reference.requires_grad_(False), packed, packed and shared, [STOP], PAD)


def options(**given: Any) -> Any:
    """The options of the ``algorithm`` that is given, or of PPO."""
    if "algorithm" in given:
        return GrpoOptionsConfig(**{"rollout_batch_size": 4, "max_completion_length": 6, **given})
    return PpoOptionsConfig(**{"rollout_batch_size": 4, "max_new_tokens": 6, **given})


def accelerator() -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True)


def rollout_tools(found: PpoModels, *, max_tokens: int = 4096, **given: Any) -> RolloutTools:
    where = Accelerator(cpu=True)
    return RolloutTools(found, None, Words(), options(**given), where, max_tokens)  # type: ignore[arg-type]


def update_tools(
    found: PpoModels,
    *,
    max_tokens: int = 4096,
    learning_rate: float = 0.05,
    where: Accelerator | None = None,
    **given: Any,
) -> UpdateTools:
    where = where or accelerator()
    module = where.prepare_model(found.module)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    chosen = options(**given)
    loss = ALGORITHMS[chosen.algorithm].objective(chosen)
    return UpdateTools(found, module, loss, optimizer, scheduler, where, chosen, max_tokens, 1.0)


def prompts(lengths: list[int], *, seed: int = 3) -> list[tuple[int, Prompt]]:
    """Numbered prompts of random ids from 3 on."""
    generator = np.random.default_rng(seed)
    found = []
    for number, length in enumerate(lengths):
        ids = tuple(int(i) for i in generator.integers(3, VOCABULARY, length))
        example = Example(f"random:{number}", prompt=str(number), completion="")
        found.append((number, Prompt(ids, str(number), "", example, {"number": number})))
    return found


def answers(lengths: list[list[int]], *, seed: int = 4) -> list[Episode]:
    """For each prompt answers of these lengths, of random ids from 3 on; the last token of each ends it."""
    generator = np.random.default_rng(seed)
    found = []
    for number, of_prompt in enumerate(lengths):
        for length in of_prompt:
            ids = generator.integers(3, VOCABULARY, length).astype(np.int32)
            ids[-1] = STOP
            episode = Episode(number, ids, np.zeros(length, np.float32), True, "")
            episode.reward = float(generator.normal())
            episode.parts = {"random": episode.reward}
            found.append(episode)
    return found
