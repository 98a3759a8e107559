"""What preference optimisation says in its model card: the loss, and the held-out preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.preference.report import displacement, held_out, settings
from hf_align.reporting.markdown import inline, table
from hf_align.reporting.stage_parts import CardPart, Sources


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    return [f"The result of preference optimisation{said.of}{said.on}, made with {said.made_with}."]


def _sections(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    facts_of_the_loss = [f"- {name}: {inline(text)}" for name, text in settings(record)]
    measured = [[row["name"], *row["cells"]] for row in held_out(record)]
    columns = ["held-out prompts", "before", "after", "95 % interval"]
    return [
        "## Preferences",
        "\n".join(facts_of_the_loss),
        table(columns, measured, numbers=True) if measured else "",
        # The first paragraph has this run's metrics; what they mean in general stays in the report.
        *(inline(paragraph) for paragraph in displacement(record, rows)[:1]),
    ]


CARD = CardPart(introduction=_introduction, sections=_sections)
