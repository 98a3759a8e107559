"""``replay-STEP.html``: a replayed update as a page, with tokens coloured by advantage and KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from hf_align.reporting.page import render_template
from hf_align.reporting.token_view import visible_html
from hf_align.rl.replay.view import (
    answer_cells,
    answer_columns,
    answer_texts,
    as_recorded,
    metrics_table,
    score_steps,
    token_cells,
    token_headings,
    verdict,
)

if TYPE_CHECKING:
    from hf_align.rl.replay.breakdown import AnswerBreakdown
    from hf_align.rl.replay.run import Replayed

LEVELS = 4
LISTED = 512
"""Answers in the table; more would make the page heavy."""
_TYPICAL = 95
"""Percentile of the tokens of a rollout that gets the strongest colour."""
_LATER_PART = "‥"


def page_name(step: int) -> str:
    """The file in the run folder that shows the replay of a step."""
    return f"replay-{step}.html"


def render_page(
    replayed: Replayed, found: Sequence[AnswerBreakdown], standing: Mapping[str, AnswerBreakdown]
) -> str:
    """The page; ``standing``: the answers that are shown token by token, by what makes them stand out."""
    again = None if replayed.again is None else replayed.again.metrics
    scales = {name: _scale(found, name) for name in ("advantage", "kl")}
    reasons: dict[int, list[str]] = {}
    for why, breakdown in standing.items():
        reasons.setdefault(breakdown.number, []).append(why)
    listed = sorted(found, key=lambda one: -abs(one.loss if one.loss is not None else one.advantage))
    return render_template(
        "rl/replay/page.html.jinja",
        step=replayed.recording.step,
        command=replayed.config.command,
        run_dir=str(replayed.folder),
        prompts=len(replayed.recording.prompts),
        answers=len(found),
        tokens=sum(len(breakdown.ids) for breakdown in found),
        verdict=verdict(replayed),
        exact=replayed.again is not None,
        as_recorded=as_recorded(replayed),
        metrics=metrics_table(replayed.recording.metrics, again),
        columns=answer_columns(found),
        rows=[answer_cells(breakdown) for breakdown in listed[:LISTED]],
        left_out=max(0, len(listed) - LISTED),
        order="part of the loss" if found[0].loss is not None else "advantage",
        shown=[_answer(replayed, found[number - 1], why, scales) for number, why in reasons.items()],
        signed_kl=replayed.config.options.kl_estimator == "k1",
        meanings=token_headings(found[0]),
    )


def _answer(
    replayed: Replayed, breakdown: AnswerBreakdown, why: Sequence[str], scales: Mapping[str, float]
) -> dict[str, Any]:
    texts = answer_texts(breakdown, replayed.tokenizer)
    cells = [token_cells(breakdown, place) for place in range(len(texts))]
    headings = [heading for heading, _ in token_headings(breakdown)]
    titles = [
        f"token {place + 1}\n" + "\n".join(f"{name} {cell}" for name, cell in zip(headings, row, strict=True))
        for place, row in enumerate(cells)
    ]
    clipped = breakdown.tokens.get("clipped")
    prompt = str(replayed.tokenizer.decode(list(breakdown.prompt_ids), skip_special_tokens=False))
    return {
        "title": f"Answer {breakdown.number} to prompt {breakdown.prompt}",
        "source": breakdown.source,
        "why": ", ".join(why),
        "prompt": visible_html(prompt),
        "steps": score_steps(breakdown, replayed),
        "by_advantage": _strip(texts, breakdown.tokens["advantage"], scales["advantage"], titles, clipped),
        "by_kl": _strip(texts, breakdown.tokens["kl"], scales["kl"], titles, None),
        "headings": headings,
        "table": [
            (str(place + 1), visible_html(text) if text else _LATER_PART, row)
            for place, (text, row) in enumerate(zip(texts, cells, strict=True))
        ],
    }


def _strip(texts: Sequence[str], values: Any, scale: float, titles: Sequence[str], underlined: Any) -> Markup:
    """Tokens one after the other, each coloured by its value and underlined where ``underlined`` is not 0."""
    pieces = []
    for place, (text, title) in enumerate(zip(texts, titles, strict=True)):
        marks = [level(float(values[place]), scale)]
        if underlined is not None and underlined[place]:
            marks.append("cl")
        kind = " ".join(mark for mark in marks if mark)
        shown = visible_html(text) if text else _LATER_PART
        pieces.append(Markup('<span class="{}" title="{}">{}</span>').format(kind, title, shown))
    return Markup("").join(pieces)


def level(value: float, scale: float) -> str:
    """The class of a colour: p1 to p4 above 0, n1 to n4 below, none near 0 or where nothing differs."""
    if not math.isfinite(value) or scale <= 0:
        return ""
    steps = min(LEVELS, math.floor(abs(value) / scale * LEVELS + 0.5))
    return f"{'p' if value > 0 else 'n'}{steps}" if steps else ""


def _scale(found: Sequence[AnswerBreakdown], name: str) -> float:
    return float(np.percentile(np.abs(np.concatenate([one.tokens[name] for one in found])), _TYPICAL))
