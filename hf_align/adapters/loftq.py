"""LoftQ (Li et al. 2023, arXiv 2310.08659) on a base in 4 bits: LoRA begins by what quantisation took away.

With W the weights on the disk and Q what 4 bits hold of them, s·B·A begins as the best approximation of W - Q
of its rank, split evenly between A and B. The base stays as it was quantised, which is one step of the
paper's alternation, as in PEFT's ``replace_lora_weights_loftq``. That one runs on CUDA and XPU alone, and
leaves out s = lora_alpha / lora_r, so that with s = 2 it corrects twice as much as was lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from hf_align.errors import UserError


@torch.no_grad()
def correct_rounding(model: Any) -> None:
    """Set A and B of every LoRA layer of ``model`` that stands on a layer in 4 bits.

    Raises UserError where there is none, and where the weights before quantisation are not at hand.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer) and getattr(layer.get_base_layer().weight, "quant_state", None)
    }
    if not layers:
        raise UserError(
            "init_lora_weights: none of the layers that the adapter is put on is held in 4 bits, and loftq "
            "has nothing to correct; take default"
        )
    original = _Original(model.get_base_model())
    for name, layer in tqdm(layers.items(), desc="loftq", unit="layer", leave=False):
        held = dequantize_module_weight(layer.get_base_layer()).float()
        lost = original.weight(name, tuple(held.shape)).to(held) - held
        rank, scaling = layer.r["default"], layer.scaling["default"]
        b, a = low_rank(lost / scaling, rank)
        layer.lora_A["default"].weight.copy_(a)
        layer.lora_B["default"].weight.copy_(b)


def low_rank(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B (out, rank) and A (rank, in): of all products of that rank the nearest to ``matrix`` (out, in)."""
    # The vectors of the smaller side of M Mᵀ are those of M, and take a fraction of the time.
    across = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if across else matrix).double()
    _, vectors = torch.linalg.eigh(wide @ wide.T)
    left = vectors[:, -rank:].flip(1)
    right = left.T @ wide
    sizes = right.norm(dim=1).clamp_min(1e-30).sqrt()
    left, right = left * sizes, right / sizes[:, None]
    b, a = (right.T, left.T) if across else (left, right)
    return b.to(matrix).contiguous(), a.to(matrix).contiguous()


class _Original:
    """Weights on the disk, by the names that they have in a model; one at a time is read."""

    def __init__(self, base: Any) -> None:
        # Young and private; it finds the shard and the name in the files.
        from peft.utils.loftq_utils import _SafetensorLoader

        self.name = str(base.name_or_path)
        holder = type("Holder", (), {"get_base_model": lambda _: base})()
        try:
            self.files = _SafetensorLoader(holder, str(self._folder()))
        except (ValueError, OSError) as error:
            raise self._missing(error) from error

    def weight(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The weight of the linear layer ``name``, (out, in)."""
        from safetensors import SafetensorError

        try:
            found: torch.Tensor = self.files.get_tensor(f"{name}.weight")
        except (SafetensorError, KeyError, OSError) as error:
            raise self._missing(error) from error
        if tuple(found.shape) != shape:
            raise self._missing(f"{name}.weight has the shape {tuple(found.shape)}, and the layer {shape}")
        return found

    def _folder(self) -> Path:
        if Path(self.name).is_dir():
            return Path(self.name)
        from transformers.utils import cached_file

        # The weights lie beside it: the base was loaded from there.
        return Path(str(cached_file(self.name, "config.json", local_files_only=True))).parent

    def _missing(self, reason: object) -> UserError:
        return UserError(
            f"init_lora_weights: loftq needs the weights of '{self.name}' before quantisation, as "
            f"safetensors on the disk: {(str(reason).splitlines() or [''])[0]}"
        )
