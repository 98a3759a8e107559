"""What a stage adds to the report page and to the model card of its runs; see ``hf_align.stages``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hf_align.reporting.drawing import STEPS, XAxis
from hf_align.reporting.run_view import Fact

Record = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ReportPart:
    """A stage's sections of ``report.html``.

    ``view``: (record, lines of metrics.jsonl, run folder) to what the template shows. ``template``: a file
    under ``hf_align`` or ``reporting/templates`` with the macros ``nav(view)``, ``sections(view, shown)``
    and ``cell(view, shown)``, the last for notebooks. ``place``: where they stand beside the curves.
    ``facts``: the headline facts, in place of the usual ones. ``title``: of the page, where the run has no
    name. ``first_facts``: headline facts before the usual ones; ``held_out_facts``: behind the loss.
    ``method``: how the weights came about, where the adapter does not say it. ``metrics``: what is compared
    with other runs besides the final metrics. ``x``: what a step of the curves is. ``style``: whether the
    template has a macro ``style()`` for the head of the page.
    """

    view: Callable[[Record, Rows, str], dict[str, Any]]
    template: str = "section.html.jinja"
    place: Literal["before curves", "instead of curves", "after curves"] = "after curves"
    facts: Callable[[Record], list[Fact]] | None = None
    first_facts: Callable[[Record], list[Fact]] | None = None
    held_out_facts: Callable[[Record], list[Fact]] | None = None
    method: Callable[[Record], str | None] | None = None
    metrics: Callable[[Record], dict[str, Any]] | None = None
    title: Callable[[Record], str] | None = None
    x: XAxis = STEPS
    style: bool = False


@dataclass(frozen=True)
class Sources:
    """Words of a model card's introduction. ``of``: `` of `base```, or nothing; ``on``: `` on `data```, or
    nothing; ``made_with``: the program and its version."""

    of: str
    on: str
    made_with: str


@dataclass(frozen=True)
class CardPart:
    """What a stage says in the model card of its runs.

    ``introduction``: the first sentences. ``whole``: the card of a run that leaves no model, in place of all
    else; None where this run left one. ``results``: headline facts, in place of the usual ones.
    ``sections``: Markdown after the results. ``loading``: the section on how to load the model.
    ``front_matter``: entries beside or in place of the usual ones. ``limits``: sentences on what the model
    learned, in place of the one on target tokens.
    """

    introduction: Callable[[Record, Sources], list[str]] | None = None
    whole: Callable[[Record], str | None] | None = None
    results: Callable[[Record], list[Fact]] | None = None
    sections: Callable[[Record, Rows], list[str]] | None = None
    loading: Callable[[Record], str] | None = None
    front_matter: Callable[[Record], dict[str, Any]] | None = None
    limits: Callable[[Record], list[str]] | None = None
