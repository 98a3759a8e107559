"""Answers to held-out prompts, generated before and after training so that people can compare them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from hf_align.data.chat.calls import call_scores, wanted_calls
from hf_align.data.chat.rendering import prompt_ids, render_prompt
from hf_align.data.seq2seq import Seq2SeqEncoder, prompt_and_answer
from hf_align.modeling.seq2seq import seeded, write_answers
from hf_align.reporting.mask_view import spread
from hf_align.runs.schema import Calls, Matches, Record
from hf_align.sampling.answers import Answer, answer_of, sample_answers
from hf_align.sampling.options import Sampling, context_length
from hf_align.sampling.stopping import stop_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import SamplesConfig
    from hf_align.types import Example

logger = logging.getLogger(__name__)

BATCH = 16


def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: SamplesConfig,
    *,
    stop_ids: list[int],
    seed: int,
    sharded: bool = False,
) -> list[Answer]:
    """The answer to each example.

    Greedy at temperature 0. What is drawn otherwise comes from ``seed`` alone and leaves the random state of
    training as it is. ``sharded``: every process holds a part of the model and answers the same examples.
    """
    was_training = model.training
    model.eval()
    if model.config.is_encoder_decoder:
        written = _written(model, tokenizer, examples, config, seed=seed)
        model.train(was_training)
        return [answer_of(tokenizer, ids, stop_ids) for ids in written]
    with tqdm(total=len(examples), desc="answering held-out prompts", leave=False) as bar:
        found = sample_answers(
            model,
            tokenizer,
            [prompt_ids(tokenizer, example) for example in examples],
            Sampling(config.sample_max_new_tokens, config.sample_temperature),
            stop_ids=stop_ids,
            max_rows=BATCH,
            generator=torch.Generator(device=model.device).manual_seed(seed),
            sharded=sharded,
            progress=bar.update,
        )
    model.train(was_training)
    return [answer for (answer,) in found]


def _written(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: SamplesConfig,
    *,
    seed: int,
) -> list[list[int]]:
    """What an encoder-decoder model writes, by transformers' own ``generate``."""
    prompts = Seq2SeqEncoder(tokenizer).prompt_ids([prompt_and_answer(example)[0] for example in examples])
    with tqdm(total=len(examples), desc="answering held-out prompts", leave=False) as bar, seeded(seed):
        return write_answers(
            model,
            prompts,
            max_new_tokens=config.sample_max_new_tokens,
            temperature=config.sample_temperature,
            pad_token_id=int(tokenizer.pad_token_id),
            rows=BATCH,
            progress=bar.update,
        )


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
        self.wanted = [wanted_calls(example) for example in self.examples]
        self.entries: list[dict[str, Any]] = []
        seq2seq = bool(model.config.is_encoder_decoder)
        for example in self.examples:
            prompt, reference = prompt_and_answer(example) if seq2seq else render_prompt(tokenizer, example)
            self.entries.append({"source": example.source, "prompt": prompt, "reference": reference})

    def _choose(self, examples: Sequence[Example]) -> list[Example]:
        """Spread over all held-out rows, so that every source is met; without those that do not fit."""
        if self.model.config.is_encoder_decoder:  # prompts and answers have places of their own
            return spread(examples, self.config.num_samples)
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

    def generate(self, when: str, *, seed: int, main: bool, sharded: bool = False) -> None:
        """Answer every prompt; ``when`` is ``before`` or ``after``.

        Only the main process does it; all do where the model is ``sharded``.
        """
        if not (main or sharded) or not self.examples:
            return
        answers = generate_answers(
            self.model,
            self.tokenizer,
            self.examples,
            self.config,
            stop_ids=self.stop_ids,
            seed=seed,
            sharded=sharded,
        )
        for entry, answer in zip(self.entries, answers, strict=True):
            entry[when] = answer.text
            entry[f"{when}_stopped"] = answer.stopped

    def restore(self, entries: Sequence[dict[str, Any]]) -> None:
        """Take the answers from before training from an earlier part of the same run."""
        known = {(entry.get("source"), entry.get("prompt")): entry for entry in entries}
        for entry in self.entries:
            earlier = known.get((entry["source"], entry["prompt"]), {})
            entry.update({key: earlier[key] for key in ("before", "before_stopped") if key in earlier})

    def set_stop_tokens(self) -> None:
        """Write the ids that end an answer into the model's generation settings, which are saved with it."""
        self.model.generation_config.eos_token_id = list(self.stop_ids)

    def record(self) -> Record:
        """The entries of run.json: ``generations``, ``sample_exact_match`` and, where a reference calls a
        tool, ``sample_calls``."""
        matches = {
            when: exact_match([entry[when] for entry in self.entries], [e["reference"] for e in self.entries])
            for when in ("before", "after")
            if self.entries and all(when in entry for entry in self.entries)
        }
        record = Record(generations=self.entries, sample_exact_match=Matches(**matches))
        if any(self.wanted):
            record.sample_calls = self._calls(list(matches))
        return record

    def _calls(self, times: Sequence[str]) -> Calls:
        """How many answers call the tools that their references call; ``times``: ``before``, ``after``."""
        scores = {
            when: [
                call_scores(entry[when], wanted)
                for entry, wanted in zip(self.entries, self.wanted, strict=True)
            ]
            for when in times
        }

        def shares(metric: str) -> Matches:
            known = {when: [row[metric] for row in rows if metric in row] for when, rows in scores.items()}
            return Matches(**{when: sum(each) / len(each) for when, each in known.items() if each})

        asked = sum(map(bool, self.wanted))
        return Calls(
            rows=asked,
            name=shares("call_name"),
            exact=shares("call_exact"),
            other_rows=len(self.wanted) - asked,
            none=shares("no_call"),
        )


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers that equal their reference, spaces at the ends aside."""
    return sum(a.strip() == r.strip() for a, r in zip(answers, references, strict=True)) / len(references)
