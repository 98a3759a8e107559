"""A replayed PPO update for the terminal: metrics, the answers that stand out, and one answer in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_align.reporting.token_view import visible
from hf_align.rl.replay.view import (
    answer_cells,
    answer_columns,
    answer_texts,
    metrics_table,
    score_steps,
    token_cells,
    token_headings,
    verdict,
)
from hf_align.runs.columns import aligned

if TYPE_CHECKING:
    from hf_align.rl.replay.breakdown import AnswerBreakdown
    from hf_align.rl.replay.run import Replayed


def summary_text(
    replayed: Replayed, found: Sequence[AnswerBreakdown], standing: Mapping[str, AnswerBreakdown]
) -> str:
    """Figures and verdict, then the answers of ``standing`` with what makes each stand out."""
    recording = replayed.recording
    tokens = sum(len(breakdown.ids) for breakdown in found)
    lines = [
        f"Rollout {recording.step} of {replayed.folder}: {len(recording.prompts):,} prompts, "
        f"{len(found):,} answers, {tokens:,} tokens",
        *verdict(replayed),
        "",
    ]
    again = None if replayed.again is None else replayed.again.metrics
    columns = ["metric", "recorded"] if again is None else ["metric", "recorded", "again", "difference"]
    table = metrics_table(recording.metrics, again)
    cells = [[metric.name, metric.recorded, metric.again, metric.difference] for metric in table]
    lines += aligned([columns, *(row[: len(columns)] for row in cells)], text_columns=1)
    lines += ["", *aligned([["", *answer_columns(found)], *_rows(standing)], text_columns=1)]
    return "\n".join(lines)


def answer_text(replayed: Replayed, breakdown: AnswerBreakdown) -> str:
    """Where the numbers of one answer came from, token by token."""
    prompt = str(replayed.tokenizer.decode(list(breakdown.prompt_ids), skip_special_tokens=False))
    headings = ["", "token", *(heading for heading, _ in token_headings(breakdown))]
    texts = answer_texts(breakdown, replayed.tokenizer)
    rows = [
        [str(place + 1), _on_one_line(text), *token_cells(breakdown, place)]
        for place, text in enumerate(texts)
    ]
    return "\n".join(
        [
            f"Answer {breakdown.number} to prompt {breakdown.prompt} ({breakdown.source}):",
            f"  {_on_one_line(prompt)}",
            "",
            *(f"  {line}" for line in score_steps(breakdown, replayed)),
            "",
            *aligned([headings, *rows], text_columns=2),
        ]
    )


def _rows(standing: Mapping[str, AnswerBreakdown]) -> list[list[str]]:
    return [[why, *answer_cells(breakdown)] for why, breakdown in standing.items()]


def _on_one_line(text: str) -> str:
    return visible(text).replace("\n", "").replace("\t", "")
