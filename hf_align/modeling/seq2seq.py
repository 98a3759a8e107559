"""Encoder-decoder language models for fine-tuning, and what they write to prompts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hf_align.modeling.loading import load_weights, refuse_missing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_align.config import ModelConfig
    from hf_align.modeling.precision import Precision

KIND = "encoder-decoder language model"


def load_seq2seq(
    config: ModelConfig, *, trainable_base: bool, precision: Precision, use_cpu: bool
) -> PreTrainedModel:
    """An encoder-decoder model with a language-model head; see ``loading.load_weights``.

    Raises UserError where there is none, or where weights are missing.
    """
    from transformers import AutoModelForSeq2SeqLM

    model, lacking = load_weights(
        AutoModelForSeq2SeqLM,
        KIND,
        config,
        trainable_base=trainable_base,
        precision=precision,
        use_cpu=use_cpu,
    )
    refuse_missing(config.model_name_or_path, KIND, lacking)
    return model


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside, and leave the global generators as they were."""
    # Of the accelerator in use alone: by default each one of the machine would be set up for it.
    devices = [torch.accelerator.current_device_index()] if torch.accelerator.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def write_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    pad_token_id: int,
    rows: int,
    progress: Callable[[int], Any] = lambda count: None,
) -> list[list[int]]:
    """The tokens that ``model.generate`` writes to each prompt, without the one that its decoder begins with.

    ``rows``: prompts at once. Greedy at temperature 0. What comes behind the end stays in.
    """
    found: list[list[int]] = []
    for start in range(0, len(prompts), rows):
        some = [list(prompt) for prompt in prompts[start : start + rows]]
        width = max(map(len, some))
        ids = torch.tensor([ids + [pad_token_id] * (width - len(ids)) for ids in some])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in some])
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            num_beams=1,
            **sampling,
        )
        found += [row[1:] for row in written.tolist()]
        progress(len(some))
    return found
