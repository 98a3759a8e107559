"""A judge model behind an OpenAI-compatible service: which of two answers is better, or neither.

How it is asked is in ``chat_service``; what becomes of the verdicts is in ``win_rate``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.evaluation.judging.chat_service import ChatService
from hf_align.types import Message

Verdict = Literal["first", "second", "tie", "unreadable", "refused"]
"""``unreadable``: a reply without a verdict; ``refused``: no reply."""

PROMPT = """Two assistants answered the same request. Judge which answer is better: correct, helpful, and \
doing what was asked, no more. The order of the answers and their length say nothing about their quality.

[Request]
{request}

[Answer 1]
{first}

[Answer 2]
{second}

Say in one or two sentences what decides it. Then end with one line that is exactly
Verdict: 1
or
Verdict: 2
or
Verdict: tie"""
_VERDICT = re.compile(r"verdict\W*(1|2|tie)\b", re.IGNORECASE)
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_MEANING: dict[str, Verdict] = {"1": "first", "2": "second", "tie": "tie"}


@dataclass(frozen=True)
class Judge(ChatService):
    """A chat service that is asked for verdicts. ``temperature``: None leaves it to the service."""

    named: ClassVar[str] = "judge_url"

    temperature: float | None = 0.0

    def compare(
        self, pairs: Sequence[tuple[str, str, str]], progress: Callable[[int], None] | None = None
    ) -> list[Verdict]:
        """A verdict for each (request, first answer, second answer), in their order.

        ``progress`` is called with the number of verdicts that came. Raises UserError as
        ``ChatService.replies`` does.
        """
        asked = [
            [Message("user", PROMPT.format(request=request, first=first, second=second))]
            for request, first, second in pairs
        ]
        replies = self.replies(asked, temperature=self.temperature, progress=progress)
        return ["refused" if reply is None else read_verdict(reply) for reply in replies]


def read_verdict(reply: str) -> Verdict:
    """The last verdict in a reply, its thoughts (``<think>``) aside; ``unreadable`` where there is none."""
    found = _VERDICT.findall(_THOUGHTS.sub("", reply))
    return _MEANING[found[-1].lower()] if found else "unreadable"
