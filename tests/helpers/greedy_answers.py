"""Greedy answers of a model: our stream, and what the library's own ``generate`` gives."""

from __future__ import annotations

from typing import Any

import torch

from hf_align.modeling.generation import Sampling
from hf_align.modeling.streaming import Memory, stream_tokens


def greedy(
    model: Any, prompt: list[int], *, tokens: int = 6, memory: Memory | None = None, stop_ids: Any = ()
) -> list[int]:
    sampling = Sampling(max_new_tokens=tokens)
    return list(stream_tokens(model, prompt, sampling, stop_ids=stop_ids, memory=memory))


def generated(model: Any, prompt: list[int], tokens: int = 6) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
    )
    return output[0, len(prompt) :].tolist()
