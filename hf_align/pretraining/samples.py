"""What a model makes of held-out rows before and after pre-training: filled masks, spans, continuations.

Entries have the form of ``training.samples``: a prompt, a reference, and an answer before and after. Encoders
fill every hidden token with their first choice, encoder-decoder models write their targets, decoders continue
the first half of a row; a decoder trained on prefixes reads it in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_align.pretraining.collators import Collator, objective
from hf_align.pretraining.collators.prefix_lm import prefix_attention
from hf_align.pretraining.collators.show import TokenDecoder
from hf_align.pretraining.data import shortened
from hf_align.reporting.mask_view import spread
from hf_align.runs.schema import Record
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling, context_length
from hf_align.types import IGNORE_INDEX, PretrainingRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import SamplesConfig


class PretrainingSamples:
    """Some held-out rows, and what the model makes of each before and after training."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        collator: Collator,
        rows: Sequence[PretrainingRow],
        sources: Sequence[str],
        config: SamplesConfig,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.objective = objective(name)
        self.config = config
        self.decode = TokenDecoder(tokenizer)
        self.entries: list[dict[str, Any]] = []
        self.inputs: list[dict[str, torch.Tensor]] = []
        self.ends = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        for row in spread([row for row in rows if len(row) >= 8], config.num_samples):
            example = shortened(row.example, with_specials=self.objective.examples == "with_specials")
            batch, prompt, reference = self._parts(example, collator)
            self.inputs.append(batch)
            self.entries.append({"source": sources[row.source], "prompt": prompt, "reference": reference})

    def _parts(self, example: dict[str, Any], collator: Collator) -> tuple[dict[str, torch.Tensor], str, str]:
        """(what the model is given, the same in words, what it should make of it in words)."""
        text = self.decode.text
        if self.objective.architecture == "decoder":
            ids = np.asarray(example["input_ids"])
            half = len(ids) // 2
            return {"input_ids": torch.tensor(ids[None, :half])}, text(ids[:half]), text(ids[half:])
        batch = dict(collator([example]))
        labels = batch["labels"][0].numpy()
        prompt = text(batch["input_ids"][0].numpy())
        if self.objective.architecture == "encoder":
            return batch, prompt, self._tokens(labels[labels != IGNORE_INDEX])
        return batch, prompt, text(labels)

    def _tokens(self, ids: npt.NDArray[Any]) -> str:
        return " | ".join(self.decode.token(id) for id in ids.tolist())

    @torch.no_grad()
    def generate(self, when: str, *, seed: int, main: bool, sharded: bool = False) -> None:
        """Answer every prompt; ``when`` is ``before`` or ``after``.

        Only the main process does it; all do where the model is ``sharded``.
        """
        if not (main or sharded) or not self.entries:
            return
        was_training = self.model.training
        self.model.eval()
        answer = {
            "encoder": self._filled,
            "encoder_decoder": self._written,
            "decoder": self._continued,
        }[self.objective.architecture]
        for entry, text in zip(self.entries, answer(seed), strict=True):
            entry[when] = text
        self.model.train(was_training)

    def _filled(self, seed: int) -> list[str]:
        answers = []
        for batch in self.inputs:
            given = ("input_ids", "attention_mask", "token_type_ids")
            output = self.model(**{key: batch[key].to(self.model.device) for key in given if key in batch})
            logits = output["logits"] if "logits" in output else output["prediction_logits"]
            hidden = batch["labels"][0] != IGNORE_INDEX
            answers.append(self._tokens(logits[0].argmax(dim=-1).cpu()[hidden].numpy()))
        return answers

    def _written(self, seed: int) -> list[str]:
        answers = []
        for batch in self.inputs:
            written = self.model.generate(
                batch["input_ids"].to(self.model.device),
                attention_mask=batch["attention_mask"].to(self.model.device),
                max_new_tokens=self._room(1),
                do_sample=False,
            )
            # The first token is the one that the decoder begins with.
            answers.append(self.decode.text(written[0, 1:].cpu().numpy()))
        return answers

    def _continued(self, seed: int) -> list[str]:
        if self.objective.examples == "without_specials" and "form" in self.objective.options:
            return [self._continued_prefix(batch["input_ids"]) for batch in self.inputs]
        prompts = [batch["input_ids"][0].tolist() for batch in self.inputs]
        found = sample_continuations(
            self.model,
            prompts,
            Sampling(self._room(max(map(len, prompts))), self.config.sample_temperature),
            stop_ids=self.ends,
            pad_token_id=int(self.tokenizer.pad_token_id),
            generator=torch.Generator(device=self.model.device).manual_seed(seed),
        )
        return [self.decode.text(one.tokens) for one in found]

    def _continued_prefix(self, ids: torch.Tensor) -> str:
        """The likeliest tokens behind a prefix that is seen whole, computed without a cache."""
        prefix = ids.shape[1]
        ids = ids.to(self.model.device)
        for _ in range(self._room(prefix)):
            length = ids.shape[1]
            mask = torch.from_numpy(prefix_attention(np.array([prefix]), np.array([length]), length))
            logits = self.model(ids, attention_mask=mask.to(ids.device), use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(dim=-1)], dim=1)
            if int(ids[0, -1]) in self.ends:
                break
        return self.decode.text(ids[0, prefix:].cpu().numpy())

    def _room(self, used: int) -> int:
        """Tokens that may be written behind ``used`` ones: those asked for, if the model has positions."""
        wanted = self.config.sample_max_new_tokens
        limit = context_length(self.model, self.tokenizer)
        return wanted if limit is None else max(1, min(wanted, limit - used))

    def restore(self, entries: Sequence[dict[str, Any]]) -> None:
        """Take the answers from before training from an earlier part of the same run."""
        known = {(entry.get("source"), entry.get("prompt")): entry for entry in entries}
        for entry in self.entries:
            earlier = known.get((entry["source"], entry["prompt"]), {})
            entry.update({key: earlier[key] for key in ("before",) if key in earlier})

    def set_stop_tokens(self) -> None:
        """Write the id that ends a text into the model's generation settings, which are saved with it."""
        if self.ends and self.model.can_generate():
            self.model.generation_config.eos_token_id = self.ends[0]

    def record(self) -> Record:
        """The entry of run.json."""
        return Record(generations=self.entries)
