"""Answers to held-out prompts, generated before and after training so that people can compare them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from hf_align.data.chat import prompt_ids, render_prompt
from hf_align.modeling.generation import context_length
from hf_align.modeling.stopping import stop_token_ids
from hf_align.reporting.mask_view import spread

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import SamplesConfig
    from hf_align.types import Example

logger = logging.getLogger(__name__)

BATCH = 16


@torch.no_grad()
def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: SamplesConfig,
    *,
    stop_ids: list[int],
    seed: int,
) -> list[tuple[str, bool]]:
    """``(answer, stopped)`` for each example; ``stopped`` is False where the token limit cut it off.

    Greedy at temperature 0. Prompts are padded on the left, in batches.
    """
    was_training = model.training
    model.eval()
    # Its own random state: drawing samples must not change what is trained afterwards.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        answers = [
            answer
            for start in tqdm(range(0, len(examples), BATCH), desc="answering held-out prompts", leave=False)
            for answer in _batch(model, tokenizer, examples[start : start + BATCH], config, stop_ids)
        ]
    model.train(was_training)
    return answers


def _batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: SamplesConfig,
    stop_ids: list[int],
) -> list[tuple[str, bool]]:
    prompts = [prompt_ids(tokenizer, example) for example in examples]
    width = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), width), tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for i, ids in enumerate(prompts):
        input_ids[i, width - len(ids) :] = torch.tensor(ids)
        mask[i, width - len(ids) :] = 1
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if config.sample_temperature > 0:
        sampling = {"do_sample": True, "temperature": config.sample_temperature, "top_p": 1.0, "top_k": 0}
    output = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=config.sample_max_new_tokens,
        eos_token_id=stop_ids,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        **sampling,
    )
    return [_answer(tokenizer, ids, stop_ids) for ids in output[:, width:].tolist()]


def _answer(tokenizer: PreTrainedTokenizerBase, ids: list[int], stop_ids: list[int]) -> tuple[str, bool]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
    return tokenizer.decode(ids[:end], skip_special_tokens=True), end is not None


class SampleSet:
    """The sampled held-out prompts of a run and their answers before and after training.

    Only rows with a prompt are sampled: a plain text has none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        config: SamplesConfig,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.examples = self._choose(examples)
        self.stop_ids = stop_token_ids(model, tokenizer)
        self.entries: list[dict[str, Any]] = []
        for example in self.examples:
            prompt, reference = render_prompt(tokenizer, example)
            self.entries.append({"source": example.source, "prompt": prompt, "reference": reference})

    def _choose(self, examples: Sequence[Example]) -> list[Example]:
        """Spread over all held-out rows, so that every source is met; without those that do not fit."""
        limit = context_length(self.model, self.tokenizer)
        room = None if limit is None else limit - self.config.sample_max_new_tokens
        asked = [example for example in examples if example.text is None]
        chosen = spread(asked, self.config.num_samples)
        fitting = [e for e in chosen if room is None or len(prompt_ids(self.tokenizer, e)) <= room]
        if len(fitting) < len(chosen):
            logger.warning(
                "%d of %d sample prompts leave no room for sample_max_new_tokens=%d in the model's %d "
                "positions and are left out",
                len(chosen) - len(fitting),
                len(chosen),
                self.config.sample_max_new_tokens,
                limit,
            )
        return fitting

    def generate(self, when: str, *, seed: int, main: bool) -> None:
        """Answer every prompt; ``when`` is ``before`` or ``after``. Only the main process does it."""
        if not main or not self.examples:
            return
        answers = generate_answers(
            self.model, self.tokenizer, self.examples, self.config, stop_ids=self.stop_ids, seed=seed
        )
        for entry, (answer, stopped) in zip(self.entries, answers, strict=True):
            entry[when] = answer
            entry[f"{when}_stopped"] = stopped

    def restore(self, entries: Sequence[dict[str, Any]]) -> None:
        """Take the answers from before training from an earlier part of the same run."""
        known = {(entry.get("source"), entry.get("prompt")): entry for entry in entries}
        for entry in self.entries:
            earlier = known.get((entry["source"], entry["prompt"]), {})
            entry.update({key: earlier[key] for key in ("before", "before_stopped") if key in earlier})

    def set_stop_tokens(self) -> None:
        """Write the ids that end an answer into the model's generation settings, which are saved with it."""
        self.model.generation_config.eos_token_id = list(self.stop_ids)

    def record(self) -> dict[str, Any]:
        """The entries of run.json: ``generations`` and ``sample_exact_match``."""
        matches = {
            when: exact_match([entry[when] for entry in self.entries], [e["reference"] for e in self.entries])
            for when in ("before", "after")
            if self.entries and all(when in entry for entry in self.entries)
        }
        return {"generations": self.entries, "sample_exact_match": matches}


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers that equal their reference, spaces at the ends aside."""
    return sum(a.strip() == r.strip() for a, r in zip(answers, references, strict=True)) / len(references)
