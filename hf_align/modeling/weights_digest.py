"""One hash for everything that decides what a model computes: its weights, its settings and its code.

Two models with the same digest give the same outputs for the same inputs, as far as files can tell. What this
leaves out: the precision of the computation and the versions of libraries, which are the caller's to add.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

# Where a model was found, what wrote it, and how it is to be called change nothing that it computes.
_NOT_COUNTED = ("_name_or_path", "_commit_hash", "transformers_version", "use_cache", "return_dict")
_NOT_COUNTED_OF_ADAPTERS = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "hf_align")
_DIGEST_BYTES = 16


def model_digest(model: torch.nn.Module) -> str | None:
    """Changes when any parameter or buffer of ``model``, its name, type or shape does, the state of quantised
    weights included, or its configuration, or code of its own that came with it.

    None where some of its code is nowhere to be read. Hashing takes about a second for a gigabyte.
    Raises ValueError for a model whose weights are not all in memory.
    """
    code = _own_code(model)
    if code is None:
        return None
    parts = {"weights": _weights(model), "settings": _settings(model), "code": code}
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _weights(model: torch.nn.Module) -> list[tuple[str, str]]:
    """(name, hash) of every tensor that the model keeps."""
    # The state holds what quantised layers need to restore their weights; buffers that are not saved, such
    # as the frequencies of rotary positions, come beside it.
    tensors = {**dict(model.named_buffers()), **model.state_dict()}
    named = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    others = [(name, repr(value)) for name, value in tensors.items() if name not in named]
    # Tied weights are one tensor under several names.
    distinct = {_place(tensor): tensor for tensor in named.values()}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing does not hold Python's lock
        hashes = dict(zip(distinct, threads.map(_hash, distinct.values()), strict=True))
    return sorted([(name, hashes[_place(tensor)]) for name, tensor in named.items()] + others)


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.is_meta:
        raise ValueError("a model whose weights are not in memory has no digest")
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)


def _hash(tensor: torch.Tensor) -> str:
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)} ".encode(), digest_size=_DIGEST_BYTES)
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    if plain.numel():
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(model: torch.nn.Module) -> dict[str, Any]:
    config = getattr(model, "config", None)
    settings: dict[str, Any] = config.to_dict() if hasattr(config, "to_dict") else {}
    settings = {name: value for name, value in settings.items() if name not in _NOT_COUNTED}
    # How an adapter's weights are used, such as their scale, is in its own configuration.
    adapters = {
        name: {key: value for key, value in own.to_dict().items() if key not in _NOT_COUNTED_OF_ADAPTERS}
        for name, own in (getattr(model, "peft_config", None) or {}).items()
    }
    return settings | {"adapters": adapters} if adapters else settings


def _own_code(model: torch.nn.Module) -> dict[str, str] | None:
    """Hashes of the files that define modules of the model, but for those of known libraries."""
    files: dict[str, str] = {}
    for kind in {kind for module in model.modules() for kind in type(module).__mro__}:
        if kind.__module__.partition(".")[0] in (*_LIBRARIES, "builtins"):
            continue
        try:
            content = Path(inspect.getfile(kind)).read_bytes()
        except (TypeError, OSError):  # defined in a notebook, for example
            return None
        name = f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"
        files[name] = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
    return files
