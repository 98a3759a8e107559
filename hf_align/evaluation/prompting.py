"""Ways to ask: with solved examples, step by step, and several times with the majority's answer.

They change the prompt and what is taken for the answer, never the model: baselines that training has to
beat. Few-shot prompting is arXiv 2005.14165, chain of thought arXiv 2205.11916 (zero-shot) and 2201.11903,
self-consistency arXiv 2203.11171.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hf_align.data.chat.prompts import prompt_turns
from hf_align.evaluation.metrics.answer_match import comparable
from hf_align.types import Example, Message

Prompting = Literal["direct", "chain_of_thought"]

STEP_BY_STEP = "Let's think step by step, and end with: The answer is"
"""Goes behind the question; what follows its last words in the reply is the answer."""
_AFTER_STEPS = r"(?is).*\banswer is:?\s*([^\n]+)"


@dataclass(frozen=True)
class Ask:
    """``style``; ``shots``: solved examples, to be shown in their order; ``pattern``: finds the answer in
    what was written, None for the style's own."""

    style: Prompting = "direct"
    shots: tuple[Example, ...] = ()
    pattern: str | None = None

    def prompt(self, example: Example) -> Example:
        """``example`` as it is put to the model. The answer it holds stays for its reference and is not
        shown."""
        if example.messages is None:
            solved = "".join(f"{each.prompt}{each.completion}\n\n" for each in self.shots)
            return replace(example, prompt=f"{solved}{self._asked(example.prompt or '')}")
        turns = list(prompt_turns(example))
        system = [turn for turn in turns[:1] if turn.role == "system"]
        solved_turns: list[Message] = []
        for shot in self.shots:
            solved_turns += [turn for turn in shot.messages or () if turn.role != "system"]
        asked = turns[len(system) :]
        asked[-1] = replace(asked[-1], content=self._asked(asked[-1].content))
        answer = (example.messages or ())[len(turns) :][:1]
        return replace(example, messages=(*system, *solved_turns, *asked, *answer))

    def _asked(self, text: str) -> str:
        if self.style == "direct":
            return text
        body = text.rstrip()
        return f"{body}\n{STEP_BY_STEP}" + text[len(body) :]

    def answer(self, written: str) -> str:
        """What counts of a reply: the last match of the pattern, or all of it where there is none."""
        pattern = self.pattern or (_AFTER_STEPS if self.style == "chain_of_thought" else None)
        if pattern is None:
            return written.strip()
        matches = list(re.finditer(pattern, written))
        if not matches:
            return written.strip()
        last = matches[-1]
        found = last.group(1) if last.re.groups else last.group(0)
        found = (found or "").strip()
        return found.rstrip(".") if self.pattern is None else found


def majority(answers: Sequence[str]) -> int:
    """The number of the answer that stands for the commonest one, the earliest where several are.

    Answers are alike after SQuAD's normalisation. An empty one counts only where all are. Raises ValueError
    without answers.
    """
    if not answers:
        raise ValueError("majority needs at least one answer")
    keys = [comparable(answer) for answer in answers]
    counts = Counter(key for key in keys if key) or Counter(keys)
    best = max(counts.values())
    return next(i for i, key in enumerate(keys) if counts.get(key) == best)
