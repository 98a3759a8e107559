"""An adapter's weights added to its base's, and how far the logits move by it.

Everything is computed in float32, which takes four bytes a parameter. A quantised base is dequantised first:
PEFT's own merge would quantise the sum again and lose most of a small update. Finding and writing the models
is the business of the command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_align.errors import UserError

if TYPE_CHECKING:
    from hf_align.config import ModelConfig
    from hf_align.modeling.precision import Precision

LAST_POSITIONS = 64
"""Logits compared per prompt: those of its last tokens, which bounds the memory of a large vocabulary."""

EXACT = 1e-3
"""Largest difference that rounding in float32 explains. Thirty layers show about 2e-5."""

HALF = 0.25
"""The same where weights are stored in 16 bits. bfloat16 rounds a weight by up to 2^-9 of itself; thirty
layers turn that into about 0.04, and computing in bfloat16 alone into 0.2. An adapter that is lost moves the
logits by several standard deviations."""

INT8 = 2.5
"""The same against a base in int8, which rounds activations too; dequantised weights do not. 0.9 was seen."""

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Difference:
    """Two models on the same prompts. Differences of logits are in standard deviations of the logits.

    ``largest`` and ``typical`` (root mean square) difference; ``same_choice``: share of positions where both
    find the same token likeliest; ``positions``: how many were compared.
    """

    largest: float
    typical: float
    same_choice: float
    positions: int


def default_tolerance(dtype: torch.dtype, quantization: str | None) -> float:
    """The largest :attr:`Difference.largest` that storing in ``dtype`` and dequantising explain."""
    if quantization == "int8":
        return INT8
    return EXACT if dtype == torch.float32 else HALF


@torch.no_grad()
def logits_of(model: Any, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """(P, V) float32 on the CPU: logits of the last positions of each prompt, one prompt at a time."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits
        found.append(logits[0, -LAST_POSITIONS:].float().cpu())
    return torch.cat(found)


def difference(after: torch.Tensor, before: torch.Tensor) -> Difference:
    """How far ``after`` is from ``before``; both (P, V). Logits that are not finite differ infinitely."""
    change = (after - before).abs() / before.std().clamp_min(1e-12)
    largest = change.max().item() if torch.isfinite(change).all() else float("inf")
    same = (after.argmax(-1) == before.argmax(-1)).float().mean().item()
    return Difference(largest, change.square().mean().sqrt().item(), same, len(before))


def compute_in_float32(model: Any) -> None:
    """Make a model compute in float32, in place. Weights held in 4 or 8 bits stay so and are not rounded."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            # Without this, bitsandbytes rounds the 4-bit values to the format that they were loaded in.
            state.dtype = module.compute_dtype = torch.float32


def dequantized(model: Any) -> Any:
    """``model`` with ordinary float32 weights in place of its 4-bit or 8-bit ones."""
    quantizer = model.hf_quantizer
    model = model.dequantize(dtype=torch.float32)
    if getattr(model.config, "quantization_config", None) is not None:
        quantizer.remove_quantization_config(model)
    return model


def adapter_kind(model: Any) -> str:
    """PEFT's name of the adapter's kind, such as ``LORA``.

    Raises UserError for a kind that adds something other than weights.
    """
    from hf_align.adapters.custom.layers import find_method
    from hf_align.adapters.custom.model import CustomModel

    kind = str(getattr(model.active_peft_config.peft_type, "value", model.active_peft_config.peft_type))
    if isinstance(model, CustomModel):
        method = find_method(model.active_peft_config)
        if method.not_mergeable:
            raise UserError(f"an adapter of the kind {method.name} cannot be merged: {method.not_mergeable}")
        return method.name
    if model.active_peft_config.is_prompt_learning or not hasattr(model, "merge_and_unload"):
        raise UserError(
            f"an adapter of the kind {kind} cannot be merged: it does not change weights of the base"
        )
    return kind


def merge(model: Any) -> Any:
    """The base model with the adapter's weights added, as a plain model. ``model`` is used up.

    Raises UserError where PEFT refuses, for example because weights are not finite.
    """
    base = model.get_base_model()
    _separate_adapted_head(base)
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"PEFT cannot merge this adapter: {' '.join(str(error).split())}") from error
    _unwrap_whole_modules(merged)
    _settle_tying(merged)
    return merged


def _unwrap_whole_modules(merged: Any) -> None:
    """Put modules that were trained in full in their places, where a method of PEFT leaves them wrapped."""
    from peft.utils import ModulesToSaveWrapper

    for path, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            merged.set_submodule(path, module.modules_to_save[module.active_adapters[0]])


def as_trained(config: ModelConfig, precision: Precision) -> ModelConfig:
    """``config`` with the type that its weights were trained in, where it leaves that to the machine."""
    if config.dtype != "auto":
        return config
    return dataclasses.replace(config, dtype=_DTYPES[precision])


def keep_if_same(folder: Path, largest: float, *, what: str, adapter: Path, advice: str = "") -> None:
    """Keep a merged model that gives what its adapter gave, else remove it again.

    ``largest``: the largest difference of ``what`` (logits, scores), in standard deviations; ``adapter``:
    where the adapter lies. Raises UserError, after removing the model, where it is beyond :data:`EXACT`.
    """
    if largest <= EXACT:
        return
    for path in (folder / "config.json", *folder.glob("model*.safetensors*")):
        path.unlink()
    raise UserError(
        f"{folder}: the merged model gives other {what} than the adapter on its base (by up to {largest:.2g} "
        f"standard deviations); the adapter alone is in {adapter}.{advice}"
    )


def cast_for_saving(model: Any, dtype: torch.dtype) -> None:
    """Round the weights to ``dtype``, in place. Raises UserError where a weight exceeds its range."""
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            continue
        parameter.data = parameter.data.to(dtype)
        if not torch.isfinite(parameter).all():
            raise UserError(f"save_dtype: {name} holds values beyond the range of {dtype_name(dtype)}")


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``, and so on."""
    return str(dtype).removeprefix("torch.")


def _separate_adapted_head(base: Any) -> None:
    """Give the head its own weights where an adapter changes tied ones: merging works in place.

    Training saw the adapter on one of the two only, so the merged model has to be untied.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [base.get_input_embeddings(), base.get_output_embeddings()]
    if any(layer is None for layer in layers) or not any(
        isinstance(layer, BaseTunerLayer) for layer in layers
    ):
        return
    embedding, head = (getattr(layer, "base_layer", layer) for layer in layers)
    if embedding.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _settle_tying(model: Any) -> None:
    """Tie embedding and head where they are equal and were tied, and say in the configuration what is so."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    config = model.config
    texts = [config, config.get_text_config()]
    if head is None or not any(getattr(text, "tie_word_embeddings", False) for text in texts):
        return
    tied = embedding.weight.shape == head.weight.shape and torch.equal(embedding.weight, head.weight)
    if tied:
        head.weight = embedding.weight
    for text in texts:
        text.tie_word_embeddings = tied
