"""Greedy answers of a model: our stream, and what the library's own ``generate`` gives."""

from __future__ import annotations

from typing import Any

import torch

from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import Memory, stream_tokens


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


@torch.no_grad()
def by_whole_passes(model: Any, prompt: list[int], tokens: int = 6) -> list[int]:
    """As :func:`generated`, each token from a forward pass of its own over all before it.

    For models with virtual tokens, which PEFT's ``generate`` loses with transformers 5.24.
    """
    ids = list(prompt)
    for _ in range(tokens):
        row = torch.tensor([ids])
        ids.append(int(model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, -1].argmax()))
    return ids[len(prompt) :]
