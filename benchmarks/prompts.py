"""What the benchmarks of sampling and of PPO share: short prompts, taken from a file of rows with answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt

LONGEST = 96
"""Tokens of the longest prompt, the chat template's included."""


def short_prompts(data: str, model: str, number: int) -> list[Prompt]:
    """The first ``number`` prompts of at most ``LONGEST`` tokens of ``data``, in its order.

    They are conversations, as ``model``'s chat template writes them, up to where it is to answer.
    """
    from hf_align.config import DataConfig, DatasetConfig, ModelConfig
    from hf_align.data.chat.prompts import read_prompts
    from hf_align.modeling.loading import load_tokenizer

    config = DataConfig(datasets=[DatasetConfig(path=data)], max_length=8192, overlong="drop")
    prompts, _ = read_prompts(config, load_tokenizer(ModelConfig(model)))
    short = [one for one in prompts if len(one.ids) <= LONGEST and one.example.messages is not None]
    if len(short) < number:
        raise SystemExit(
            f"{data}: the benchmark needs {number} conversations with a prompt of at most {LONGEST} tokens, "
            f"found {len(short)}"
        )
    return short[:number]


def as_row(prompt: Prompt) -> dict[str, Any]:
    """The row that the prompt comes from, in the format ``messages``."""
    from hf_align.data.chat.prompts import prompt_turns

    turns = [{"role": turn.role, "content": turn.content} for turn in prompt_turns(prompt.example)]
    return {"messages": [*turns, {"role": "assistant", "content": prompt.reference}]}


def lengths(prompts: list[Prompt]) -> dict[str, float]:
    """Tokens of the prompts: ``least``, ``mean`` and ``most``."""
    counts = [len(prompt.ids) for prompt in prompts]
    return {"least": min(counts), "mean": sum(counts) / len(counts), "most": max(counts)}
