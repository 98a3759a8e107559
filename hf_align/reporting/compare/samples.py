"""Answers of several runs to the same prompts, next to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.generation_view import answer_view, reference_view
from hf_align.reporting.run_view import mapping


def shared_generations(runs: Sequence[ComparedRun]) -> tuple[list[dict[str, Any]], str]:
    """(prompts that at least two runs answered, those with different answers first; a sentence on them).

    Each is what ``generation_view`` gives, with one answer a run, the answer before training where the runs
    agree on it, and the reference.
    """
    by_prompt: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, run in enumerate(runs):
        for item in run.record.generations:
            entry = mapping(item)
            if entry.get("prompt"):
                by_prompt.setdefault(str(entry["prompt"]), {}).setdefault(number, entry)
    shared = {prompt: entries for prompt, entries in by_prompt.items() if len(entries) > 1}
    views = [(_differ(entries), _view(prompt, entries, runs)) for prompt, entries in shared.items()]
    different = sum(differ for differ, _ in views)
    # Sorting is stable: within both kinds the order is that of the runs.
    ordered = [view for _, view in sorted(views, key=lambda pair: not pair[0])]
    if not by_prompt:
        return [], ""
    if not shared:
        return [], "The runs have no sampled prompt in common."
    prompts = "prompt" if len(shared) == 1 else "prompts"
    alone = len(by_prompt) - len(shared)
    rest = f" {alone} more {'was' if alone == 1 else 'were'} sampled in one run only." if alone else ""
    return ordered, (
        f"{len(shared)} {prompts} in at least two runs, {different} of them answered differently; "
        f"these come first.{rest}"
    )


def _differ(entries: Mapping[int, Mapping[str, Any]]) -> bool:
    return len({str(entry.get("after") or "").strip() for entry in entries.values()}) > 1


def _view(
    prompt: str, entries: Mapping[int, Mapping[str, Any]], runs: Sequence[ComparedRun]
) -> dict[str, Any]:
    first = next(iter(entries.values()))
    reference = first.get("reference")
    answers = []
    before = {str((entry.get("before"), entry.get("before_stopped"))) for entry in entries.values()}
    if len(before) == 1 and first.get("before") is not None:
        answers.append(
            answer_view("Before training", first["before"], first.get("before_stopped"), reference)
        )
    for number, run in enumerate(runs):
        name = f"{run.mark} · {run.name}"
        entry = entries.get(number, {})
        answer = answer_view(name, entry.get("after"), entry.get("after_stopped"), entry.get("reference"))
        if number not in entries:
            answer["missing"] = "not sampled"
        answers.append(answer)
    answers.append(reference_view(reference))
    return {"source": str(first.get("source") or ""), "prompt": prompt, "answers": answers}
