"""Rows in, tokenised rows and micro-batches out."""

from hf_align.data.chat.rendering import prompt_ids, render_prompt
from hf_align.data.comparisons.encoding import best_answer_example
from hf_align.data.prepare import PreparedData, prepare_datasets

__all__ = ["PreparedData", "best_answer_example", "prepare_datasets", "prompt_ids", "render_prompt"]
