"""The replies of models as rows: what answers.jsonl keeps of them, and the few that run.json shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_align.data.chat.calls import call_scores, wanted_calls, written_calls
from hf_align.evaluation.answering import Reply
from hf_align.evaluation.instruction_checks import passed


def as_rows(
    model: str, task: str, replies: Sequence[Reply], scores: Mapping[str, Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """What answers.jsonl keeps of the replies. ``scores``: what each reward gives for them, by its name."""
    return [
        {
            "model": model,
            "task": task,
            "source": reply.asked.prompt.example.source,
            "answer": reply.answer,
            "written": list(reply.written),
            "stopped": [sample.stopped for sample in reply.samples],
            "references": list(reply.asked.references),
            "checks": passed(reply.asked.checks, reply.answer, stopped=reply.sample.stopped),
            **_calls(reply),
            **({"rewards": {name: values[number] for name, values in scores.items()}} if scores else {}),
        }
        for number, reply in enumerate(replies)
    ]


def shown_answers(
    replies: Mapping[str, Mapping[str, Sequence[Reply]]], *, count: int = 3
) -> list[dict[str, Any]]:
    """What run.json shows of each task: ``count`` rows spread over it, with the answer of every model."""
    entries = []
    for task, by_model in replies.items():
        first = next(iter(by_model.values()))
        for place in np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).round()).astype(int):
            asked = first[place].asked
            entries.append(
                {
                    "task": task,
                    "source": asked.prompt.example.source,
                    "prompt": asked.prompt.text,
                    "reference": " / ".join(asked.references),
                    "answers": {name: given[place].sample.text for name, given in by_model.items()},
                }
            )
    return entries


def _calls(reply: Reply) -> dict[str, Any]:
    """The calls of tools in the answer and in the row, and what counts of them; nothing where neither has
    any."""
    wanted, found = wanted_calls(reply.asked.prompt.example), written_calls(reply.answer)
    if not (wanted or found):
        return {}
    written = {
        key: [{"name": call.name, "arguments": call.arguments} for call in calls]
        for key, calls in (("found", found), ("wanted", wanted))
    }
    return {"calls": {**written, **call_scores(reply.answer, wanted)}}
