"""Sampled and scored answers to prompts, as they are written down while they are made.

The file gets the prompts of one batch at a time. A batch that was cut off while it was written is done again
with the same random draws, so that a run that was interrupted ends as one that was not. How answers are made
is in ``sampling``, what is made of them in ``files``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_align.data.chat.prompts import Prompt, prompt_turns
from hf_align.errors import UserError
from hf_align.runs.record import write_atomic

SCORED_ANSWERS_FILE = "samples.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
"""One answer to each held-out prompt, in the same form."""


@dataclass(frozen=True)
class SampledPrompt:
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


def prompt_key(prompt: Prompt) -> str:
    """Changes when the tokens of the prompt, its row or the row's number in its file does, and with nothing
    else: the same file may be named in many ways."""
    row = json.dumps(prompt.row, sort_keys=True, default=str)
    number = prompt.example.source.rpartition(":")[2]
    return digest([number, list(prompt.ids), row])


def as_written(prompt: Prompt) -> str | list[dict[str, str]]:
    """The prompt as data files have it: its turns, or the string that is continued."""
    if prompt.example.messages is None:
        return prompt.example.prompt or ""
    return [{"role": turn.role, "content": turn.content} for turn in prompt_turns(prompt.example)]


def append_answers(path: Path, answered: Sequence[SampledPrompt]) -> None:
    """Add batches to a file, on the disk when this returns."""
    with path.open("ab") as stream:
        stream.write(b"".join(each.line() for each in answered))
        stream.flush()
        os.fsync(stream.fileno())


def write_answers(path: Path, answered: Sequence[SampledPrompt]) -> None:
    """Replace a file."""
    write_atomic(path, b"".join(each.line() for each in answered))


def read_answers(path: Path) -> dict[str, SampledPrompt]:
    """The answers of a file by key; of a batch that was cut off while it was written, nothing.

    What is left out is taken out of the file as well. Raises UserError for a line that is of another kind.
    """
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
        write_answers(path, whole)
    return {each.key: each for each in whole}


def _read_line(line: bytes, place: str) -> SampledPrompt:
    known = {declared.name for declared in fields(SampledPrompt)}
    try:
        values = json.loads(line)
        answered = SampledPrompt(**{name: value for name, value in values.items() if name in known})
        lists = [answered.scores, answered.stopped, answered.tokens, *answered.rewards.values()]
        if any(len(values) != len(answered.answers) for values in lists):
            raise ValueError("its lists differ in length")
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{place}: this is no line that best-of-n wrote ({' '.join(str(error).split())}). Remove it, or "
            "set resume: false to begin anew"
        ) from error
    return answered


def digest(value: Any) -> str:
    """A hash of what JSON can hold, as 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value).encode("utf-8"), digest_size=16).hexdigest()
