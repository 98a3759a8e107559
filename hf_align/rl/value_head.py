"""A policy with an estimate of what comes: one scalar for every target token, from the policy's own trunk or
from a second model.

Both are parts of one module, so that one forward pass gives log-probabilities and values, and
DistributedDataParallel synchronises the gradients of both. The head is no part of the policy, which is saved
and loaded like any language model; :func:`save_value` and :func:`load_value` keep the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from hf_align.errors import UserError
from hf_align.modeling.heads.target import TargetOutput
from hf_align.types import IGNORE_INDEX

VALUE_FILE = "value_head.safetensors"
"""The head on the policy's trunk, or whatever is trained of a second model."""


class ValueHead(torch.nn.Module):
    """States (N, d) to values (N,) float32, whatever the type of the states: one linear layer with a bias.

    ``init``: ``zero``, or ``normal``: weights from N(0, 1 / (d + 1)) (Stiennon et al. 2020, arXiv
    2009.01325).
    """

    def __init__(self, width: int, init: Literal["zero", "normal"] = "zero") -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, 1)
        with torch.no_grad():
            self.linear.bias.zero_()
            if init == "normal":
                self.linear.weight.normal_(0.0, (width + 1) ** -0.5)
            else:
                self.linear.weight.zero_()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        # bfloat16 is too coarse for differences between returns.
        with torch.autocast(states.device.type, enabled=False):
            values: torch.Tensor = self.linear(states.float()).squeeze(-1)
            return values


class PolicyWithValue(torch.nn.Module):
    """``policy``: a causal language model with a target head, with an adapter or without.

    ``value``: a :class:`ValueHead` on its trunk, or a second model: a decoder for sequence classification
    with a reward head (``modeling.heads.reward.install_reward_head``), read before every target instead of at
    the end; or None, for an algorithm that has no values.
    """

    def __init__(self, policy: Any, value: torch.nn.Module | None) -> None:
        super().__init__()
        self.policy = policy
        self.value = value

    # What Accelerate asks a model for where it shards one.

    @property
    def _no_split_modules(self) -> list[str]:
        parts = [getattr(part, "_no_split_modules", None) for part in (self.policy, self.value)]
        return sorted({name for names in parts for name in names or ()})

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.policy.get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.policy.get_output_embeddings()

    @property
    def own_trunk(self) -> bool:
        """Whether values come from a second model."""
        return not isinstance(self.value, ValueHead | None)

    def forward(
        self,
        *,
        shift_labels: torch.Tensor,
        temperature: float = 1.0,
        with_entropies: bool = False,
        **inputs: Any,
    ) -> TargetOutput:
        """Log-probabilities and values of the targets; arguments as ``modeling.inputs`` gives them, and
        ``temperature`` and ``with_entropies`` as in ``modeling.heads.target``."""
        output: TargetOutput = self.policy(
            **inputs,
            shift_labels=shift_labels,
            temperature=temperature,
            with_entropies=with_entropies,
            with_states=isinstance(self.value, ValueHead),
        )
        values = None
        if self.own_trunk:
            before_targets = (shift_labels.flatten() != IGNORE_INDEX).nonzero().squeeze(1)
            values = self.value(**inputs, last_tokens=before_targets)["scores"]
        elif self.value is not None:
            values = self.value(output["states"])
        # Without the states: a wrapper that converts outputs would copy them.
        return TargetOutput(output["logps"], output["correct"], output.entropies, values)


def trunk_width(model: torch.nn.Module) -> int:
    """d, the width of the final states of a language model, with an adapter or without."""
    config: Any = model.config
    return int(config.get_text_config().hidden_size)


def save_value(module: PolicyWithValue, folder: str | Path) -> None:
    """Write what is trained of the value estimate, if there is one, to ``folder`` as safetensors."""
    if module.value is None:
        return
    trained = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in module.value.named_parameters()
        if parameter.requires_grad
    }
    save_file(trained, Path(folder) / VALUE_FILE)


def load_value(module: PolicyWithValue, folder: str | Path) -> None:
    """Read what :func:`save_value` wrote into ``module``.

    Raises UserError where the file is missing, broken, or of another model.
    """
    if module.value is None:
        return
    path = Path(folder) / VALUE_FILE
    try:
        saved = load_file(path)
    except Exception as error:  # safetensors has an exception of its own beside OSError
        raise UserError(f"{path}: the saved value head cannot be read: {error}") from error
    trained = {name: p for name, p in module.value.named_parameters() if p.requires_grad}
    shapes = {name: tuple(p.shape) for name, p in trained.items()}
    if shapes != {name: tuple(values.shape) for name, values in saved.items()}:
        raise UserError(
            f"{path}: this is the value head of another model, or of another value_model; found "
            f"{len(saved)} tensors, expected {len(shapes)} with other names or shapes"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(saved[name])
