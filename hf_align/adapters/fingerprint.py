"""What an adapter remembers of the base that it was trained on, so that it is not put on another one.

Number formats may differ between training and loading, so weights are compared as bfloat16, to which every
usual format rounds alike; those that quantisation changes are compared only where neither side is quantised.
New tokens may be added later: of embeddings the first half of the rows counts.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 16


def base_fingerprint(base: Any, *, left_out: Collection[str] = (), rows: int | None = None) -> dict[str, Any]:
    """``left_out``: modules that are saved with the adapter, of which the base has none that counts.

    ``rows``: how many rows of the embeddings count; by default half of them. ``shapes`` changes with any
    weight's name or shape, ``kept`` with any value that quantisation leaves alone, ``linear`` (None where
    the base is quantised) with any other value. Values are None for a base in float16, which rounds
    differently. ``format``: see :func:`number_format`.
    """
    tables = [module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module]
    embeddings = {id(module.weight) for module in tables if hasattr(module, "weight")}
    if rows is None:
        rows = min((module.weight.shape[0] for module in tables if hasattr(module, "weight")), default=0) // 2
    quantized = bool(number_format(base))
    shapes, kept, linear = [], {}, {}
    for name, parameter in _weights(base, left_out):
        state = getattr(parameter, "quant_state", None)
        shape = tuple(parameter.shape if state is None else state.shape)
        if id(parameter) in embeddings:
            shapes.append(f"{name} {shape[1:]}")
            kept[name] = parameter[:rows]
        else:
            shapes.append(f"{name} {shape}")
            (kept if len(shape) < 2 else linear)[name] = parameter
    half = any(p.dtype == torch.float16 for p in [*kept.values(), *linear.values()])
    return {
        "shapes": hashlib.blake2b("\n".join(shapes).encode(), digest_size=_DIGEST_BYTES).hexdigest(),
        "rows": rows,
        "kept": None if half else _digest(kept),
        "linear": None if half or quantized else _digest(linear),
        "format": number_format(base),
    }


def number_format(base: Any) -> str:
    """How the linear layers are held: ``nf4``, ``fp4``, ``int8``, or transformers' name of another way.

    Empty where they are ordinary weights.
    """
    for parameter in base.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            return str(state.quant_type)
    if getattr(base, "is_loaded_in_8bit", False):
        return "int8"
    if not getattr(base, "is_quantized", False):
        return ""
    settings: Any = getattr(base.config, "quantization_config", None)
    return str(getattr(settings, "quant_method", "") or "quantised")


def note_other_format(saved: str, found: str, folder: object) -> None:
    """A line in the log where a base is held otherwise than when its adapter was trained.

    Both formats as :func:`number_format` says them.
    """
    if saved != found:
        logger.warning(
            "%s: this adapter was trained on a base %s and is put on the same base %s; what it gives differs "
            "by the rounding",
            folder,
            _in_words(saved),
            _in_words(found),
        )


def _in_words(number_format: str) -> str:
    return f"in {number_format}" if number_format else "that is not quantised"


def other_base(saved: Mapping[str, Any], base: Any, *, left_out: Collection[str] = ()) -> str:
    """Why ``base`` is not the one of the fingerprint ``saved``, in words; an empty string where it is."""
    found = base_fingerprint(base, left_out=left_out, rows=int(saved.get("rows") or 0))
    if saved.get("shapes") != found["shapes"]:
        return "its weights have other names or shapes"
    for part, which in (("kept", "embeddings, biases or norms"), ("linear", "linear layers")):
        if saved.get(part) and found[part] and saved[part] != found[part]:
            return f"the shapes fit, but its {which} hold other values"
    return ""


def _weights(base: torch.nn.Module, left_out: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight of the base once, under the name it has without adapters."""
    for name, parameter in base.named_parameters():
        parts = name.split(".")
        if set(parts) & {"added", "modules_to_save"} or set(parts) & set(left_out):
            continue
        if any(name.startswith(f"{path}.") for path in left_out):
            continue
        yield ".".join(p for p in parts if p not in ("base_layer", "original_module")), parameter


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    with ThreadPoolExecutor(8) as threads:  # hashing does not hold Python's lock
        parts = list(threads.map(_hash, weights.values()))
    lines = sorted(f"{name} {part}" for name, part in zip(weights, parts, strict=True))
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _hash(weight: torch.Tensor) -> str:
    plain = weight.detach().to("cpu", torch.bfloat16).contiguous().reshape(-1)
    content = plain.view(torch.uint8).numpy().data if plain.numel() else b""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
