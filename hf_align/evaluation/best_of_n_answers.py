"""Sampled and scored answers to prompts, written down while they are made, so that nothing is lost or redone.

``samples.jsonl`` gets the prompts of one batch at a time. A batch that was cut off while it was written is
done again with the same random draws, so that a run that was interrupted ends as one that was not. What is
made of the answers is in ``best_of_n_files``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_align.config.best_of_n import BestOfNOptions
from hf_align.data.prompts import Prompt, prompt_turns
from hf_align.errors import UserError
from hf_align.modeling.generation import Sampling
from hf_align.modeling.sampling import Continuation, sample_continuations
from hf_align.reporting.run_record import write_atomic
from hf_align.training.rewards import Rewards
from hf_align.training.score_scaling import penalize_missing_eos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLES_FILE = "samples.jsonl"


@dataclass(frozen=True)
class Answered:
    """One prompt with its N answers; every list has N items, in the order in which they were drawn.

    ``prompt``: turns with role and content, or a string. ``scores``: the weighted sum of the rewards less the
    penalty for answers that were cut off. ``rewards``: each reward by its name. ``stopped``: the model ended
    the answer itself. ``tokens``: how many were drawn. ``reference``: the answer of the data. ``key`` stands
    for the prompt and its row. ``batch`` and ``batch_size``: the prompts that were sampled together, written
    while the run is not complete.
    """

    prompt: str | list[dict[str, str]]
    answers: list[str]
    scores: list[float]
    rewards: dict[str, list[float]]
    stopped: list[bool]
    tokens: list[int]
    reference: str
    source: str
    key: str
    batch: str = field(default="", compare=False)
    batch_size: int = field(default=0, compare=False)

    def line(self) -> bytes:
        values = asdict(self)
        if not self.batch:
            del values["batch"], values["batch_size"]
        return json.dumps(values, ensure_ascii=False).encode("utf-8") + b"\n"


@dataclass(frozen=True)
class Sampler:
    """The model and all that decides what it answers."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stop_ids: Sequence[int]
    rewards: Rewards
    options: BestOfNOptions
    missing_eos_penalty: float | None = None

    def answer(self, prompts: Sequence[Prompt]) -> list[Answered]:
        """N answers to each prompt. The draws depend on the seed and on these prompts only."""
        options = self.options
        batch = _digest([options.seed, [prompt_key(prompt) for prompt in prompts]])
        generator = torch.Generator(device=self.model.device)
        generator.manual_seed(int(batch[:15], 16))
        drawn = sample_continuations(
            self.model,
            [prompt.ids for prompt in prompts],
            Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k),
            stop_ids=self.stop_ids,
            pad_token_id=int(self.tokenizer.pad_token_id),
            samples=options.num_generations,
            max_rows=options.generation_batch_size,
            generator=generator,
        )
        texts = [self._text(each) for each in drawn]
        asked = [prompts[each.prompt] for each in drawn]
        scored = self.rewards.score(
            [prompt.text for prompt in asked],
            texts,
            [prompt.row for prompt in asked],
            [prompt.example for prompt in asked],
        )
        totals = penalize_missing_eos(
            scored.total, [each.stopped for each in drawn], self.missing_eos_penalty
        )
        found = []
        for number, prompt in enumerate(prompts):
            mine = [i for i, each in enumerate(drawn) if each.prompt == number]
            found.append(
                Answered(
                    prompt=as_written(prompt),
                    answers=[texts[i] for i in mine],
                    scores=totals[mine].tolist(),
                    rewards={name: values[mine].tolist() for name, values in scored.parts.items()},
                    stopped=[drawn[i].stopped for i in mine],
                    tokens=[len(drawn[i].tokens) for i in mine],
                    reference=prompt.reference,
                    source=prompt.example.source,
                    key=prompt_key(prompt),
                    batch=batch,
                    batch_size=len(prompts),
                )
            )
        return found

    def _text(self, continuation: Continuation) -> str:
        ids = continuation.tokens.tolist()
        ids = ids[:-1] if continuation.stopped else ids
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def batches(prompts: Sequence[Prompt], options: BestOfNOptions) -> Iterator[list[Prompt]]:
    """Prompts that are answered together: of similar length, the longest first."""
    together = max(1, options.generation_batch_size // options.num_generations)
    order = sorted(prompts, key=lambda prompt: -len(prompt.ids))
    for start in range(0, len(order), together):
        yield order[start : start + together]


def prompt_key(prompt: Prompt) -> str:
    """Changes when the tokens of the prompt, its row or the row's place does."""
    row = json.dumps(prompt.row, sort_keys=True, default=str)
    return _digest([prompt.example.source, list(prompt.ids), row])


def as_written(prompt: Prompt) -> str | list[dict[str, str]]:
    """The prompt as data files have it: its turns, or the string that is continued."""
    if prompt.example.messages is None:
        return prompt.example.prompt or ""
    return [{"role": turn.role, "content": turn.content} for turn in prompt_turns(prompt.example)]


def append_answers(folder: str | Path, answered: Sequence[Answered]) -> None:
    """Add one batch to the file of a run, on the disk when this returns."""
    with (Path(folder) / SAMPLES_FILE).open("ab") as stream:
        stream.write(b"".join(each.line() for each in answered))
        stream.flush()
        os.fsync(stream.fileno())


def write_answers(folder: str | Path, answered: Sequence[Answered]) -> None:
    """Replace the file of a run."""
    write_atomic(Path(folder) / SAMPLES_FILE, b"".join(each.line() for each in answered))


def read_answers(folder: str | Path) -> dict[str, Answered]:
    """The answers of a run by key; of a batch that was cut off while it was written, nothing.

    What is left out is taken out of the file as well. Raises UserError for a line that is of another kind.
    """
    path = Path(folder) / SAMPLES_FILE
    if not path.is_file():
        return {}
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]  # after the last line end there is nothing, or part of a line
    found = [_read_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    written: dict[str, int] = {}
    for each in found:
        written[each.batch] = written.get(each.batch, 0) + 1
    whole = [each for each in found if not each.batch or written[each.batch] >= each.batch_size]
    if len(whole) < len(found) or not content.endswith(b"\n"):
        write_answers(folder, whole)
    return {each.key: each for each in whole}


def _read_line(line: bytes, place: str) -> Answered:
    known = {declared.name for declared in fields(Answered)}
    try:
        values = json.loads(line)
        answered = Answered(**{name: value for name, value in values.items() if name in known})
        lists = [answered.scores, answered.stopped, answered.tokens, *answered.rewards.values()]
        if any(len(values) != len(answered.answers) for values in lists):
            raise ValueError("its lists differ in length")
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{place}: this is no line that best-of-n wrote ({' '.join(str(error).split())}). Remove it, or "
            "set resume: false to begin anew"
        ) from error
    return answered


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode("utf-8"), digest_size=16).hexdigest()
