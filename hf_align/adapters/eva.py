"""EVA (Paischer et al. 2024, arXiv 2410.07170): LoRA that begins in the main directions of its inputs.

A of each layer gets the principal directions of what the layer is given by the training rows, B stays zero;
of all layers' directions those are kept that explain the largest share of their layer's inputs, so that ranks
differ. PEFT computes both. Here are its calls, the share of the variance that the chosen directions explain,
measured by a pass of our own, and the way back from a checkpoint. What this leaves out: which rows make the
batches (``training.eva``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hf_align.adapters.peft_methods import quiet_peft
from hf_align.errors import UserError

MOST_PASSES = 500
"""Forward passes after which directions that still turn are given up on."""

_FIRST = 8
"""Positions by which PEFT tells whether two layers have the same inputs; it hashes every number of them."""

_A = ".lora_A.weight"

Arguments = Callable[[Any], tuple[dict[str, Any], torch.Tensor]]
"""A batch to the arguments of a forward pass, on the model's device, and which positions (B, T) count."""


@dataclass(frozen=True)
class Directions:
    """``directions``: (rank, inputs) float32 for the A of each layer, by its name in the model; rank 0 where
    it is better spent elsewhere. ``explained``: the share of the variance of its inputs. ``passes``: forward
    passes until the directions held still. ``positions``: how many were looked at, each once."""

    directions: dict[str, torch.Tensor]
    explained: dict[str, float]
    passes: int
    positions: int


def needed_inputs(model: Any) -> int:
    """Positions that count in a batch at least, for a LoRA model that asks for EVA.

    PEFT looks for ``rho`` times the rank directions, by a decomposition that takes twice as many inputs.
    Raises UserError where a layer has fewer inputs than that.
    """
    config = model.peft_config["default"]
    rho, needed = config.eva_config.rho, 0
    for name, layer in lora_layers(model).items():
        wanted = 2 * round(layer.r["default"] * rho)
        if wanted > layer.in_features:
            raise UserError(
                f"init_lora_weights: eva looks for the main directions of the {layer.in_features} inputs of "
                f"{plain(name)}, and for rank {layer.r['default']} with eva_rho {rho:g} that takes twice "
                f"{wanted // 2} of them; set eva_rho to 1, or lora_r to "
                f"{max(1, int(layer.in_features / 2 // rho))} or less"
            )
        needed = max(needed, wanted)
    return needed


def lora_layers(model: Any) -> dict[str, Any]:
    """The layers of a LoRA model that EVA is made for, by their name in it."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.eva import UNSUPPORTED_LORA_MODULES

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and not isinstance(module, UNSUPPORTED_LORA_MODULES)
    }


def find_directions(
    model: Any, batches: Sequence[Any], arguments: Arguments, *, show_progress: bool = True
) -> Directions:
    """The directions of every LoRA layer of ``model``, whose own weights are left as they are.

    ``batches`` are gone through, again and again, until PEFT finds that the directions hold still. The base
    runs without its adapter and without dropout. Raises UserError where a layer sees too few inputs, or the
    directions go on turning.
    """
    from peft.tuners.lora.eva import get_eva_state_dict

    needed = needed_inputs(model)
    passes = 0

    def forward(model: Any, batch: _PreparedBatch) -> None:
        nonlocal passes
        if passes > MOST_PASSES:
            raise UserError(
                f"init_lora_weights: after {MOST_PASSES} passes the directions of eva still turn; lower "
                "eva_tau, eva_rho or lora_r, or take default"
            )
        model(**batch.inputs)
        passes += 1

    def chosen(layer_input: Any, counted: torch.Tensor, name: str) -> torch.Tensor:
        states = _states(layer_input, counted)
        if passes:
            return states
        if len(states) < needed:
            raise UserError(
                f"init_lora_weights: in a batch {plain(name)} gets {len(states)} inputs that count, and eva "
                f"needs {needed} for this rank; lower lora_r or eva_rho, or raise max_tokens_per_batch"
            )
        return states[:_FIRST]

    with quiet_peft():
        directions = get_eva_state_dict(
            model,
            _Batches(batches, arguments),
            forward_fn=forward,
            prepare_model_inputs_fn=lambda batch, _: batch.counted,
            prepare_layer_inputs_fn=chosen,
            gather_distributed_inputs=False,
            show_progress_bar=show_progress,
        )
    # The first pass only finds layers with the same inputs.
    passes -= 1
    looked_at = batches[: min(passes, len(batches))]
    explained, positions = _explained(model, looked_at, arguments, directions)
    directions = {name: value.float() for name, value in directions.items()}
    return Directions(directions, explained, passes, positions)


def put_in(model: Any, directions: dict[str, torch.Tensor]) -> None:
    """Give the layers of ``model`` their directions, and so their ranks; those of rank 0 are removed."""
    from peft import initialize_lora_eva_weights

    with quiet_peft():
        initialize_lora_eva_weights(model, eva_state_dict=dict(directions))
    # PEFT makes layers of another rank in the base's number format; adapters are float32.
    for layer in lora_layers(model).values():
        for part in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
            if "default" in part:
                part["default"].float()


def directions_of(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The A matrices of an adapter that was saved in ``folder``, in the form of :func:`put_in`.

    So the layers of ``model``, which is that adapter before EVA, get the ranks that it was trained with.
    Raises UserError where the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: this file cannot be read as safetensors: {error}") from error
    found = {key.removesuffix(_A): value for key, value in saved.items() if key.endswith(_A)}
    return {
        name: found.get(name, torch.zeros(0, layer.in_features)) for name, layer in lora_layers(model).items()
    }


class _PreparedBatch:
    """A batch that is ready to run."""

    def __init__(self, inputs: dict[str, Any], counted: torch.Tensor) -> None:
        self.inputs, self.counted = inputs, counted


class _Waiting:
    """A batch that is made when PEFT moves it to the device: it keeps all that it has seen."""

    def __init__(self, batch: Any, arguments: Arguments) -> None:
        self.batch, self.arguments = batch, arguments

    def to(self, device: Any) -> _PreparedBatch:
        return _PreparedBatch(*self.arguments(self.batch))


class _Batches:
    def __init__(self, batches: Sequence[Any], arguments: Arguments) -> None:
        self.waiting = [_Waiting(batch, arguments) for batch in batches]

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[_Waiting]:
        return iter(self.waiting)


def _states(layer_input: Any, counted: torch.Tensor) -> torch.Tensor:
    """(n, d): what a layer is given at the positions that count, or all of it where it sees other ones (a
    head that runs on targets alone, a pooler)."""
    states = layer_input[0] if isinstance(layer_input, tuple | list) else layer_input
    if states.shape[:-1] == counted.shape:
        return states[counted]
    return states.reshape(-1, states.shape[-1])


@torch.no_grad()
def _explained(
    model: Any, batches: Sequence[Any], arguments: Arguments, directions: dict[str, torch.Tensor]
) -> tuple[dict[str, float], int]:
    """For each layer the variance of its inputs along its directions, over all of it; and the positions."""
    sums: dict[str, list[torch.Tensor]] = {}
    counted = torch.zeros(0)
    positions = 0

    def watch(name: str, axes: torch.Tensor) -> Callable[..., None]:
        def hook(module: Any, given: Any, output: Any) -> None:
            states = _states(given, counted).double()
            along = states @ axes.T
            parts = [
                torch.tensor(float(len(states))),
                states.sum(0),
                states.square().sum(),
                along.sum(0),
                along.square().sum(),
            ]
            known = sums.get(name)
            sums[name] = parts if known is None else [a + b for a, b in zip(known, parts, strict=True)]

        return hook

    training = model.training
    with model.disable_adapter(), contextlib.ExitStack() as hooks:
        for name, layer in lora_layers(model).items():
            axes = torch.nn.functional.normalize(directions[name].double(), dim=1)
            hooks.callback(layer.register_forward_hook(watch(name, axes)).remove)
        model.eval()
        for batch in batches:
            inputs, counted = arguments(batch)
            positions += int(counted.sum())
            model(**inputs)
    model.train(training)
    shares = {}
    for name, (count, total, squares, total_along, squares_along) in sums.items():
        whole = squares - total.square().sum() / count
        part = squares_along - total_along.square().sum() / count
        shares[name] = float(part / whole.clamp_min(1e-12))
    return shares, positions


def plain(name: str) -> str:
    """The name of a layer in the base."""
    return name.removeprefix("base_model.model.")
