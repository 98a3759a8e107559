"""What KTO says in its model card: the loss, the labels, and the held-out rewards of both kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.kto.report import held_out, settings
from hf_align.reporting.markdown import inline, table
from hf_align.reporting.stage_parts import CardPart, Sources


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    return [f"Aligned with single labelled answers (KTO){said.of}{said.on}, made with {said.made_with}."]


def _sections(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [[row["name"], *row["cells"]] for row in held_out(record)]
    columns = ["held-out rows", "before", "after", "95 % interval"]
    return [
        "## Labelled answers",
        "\n".join(f"- {name}: {inline(text)}" for name, text in settings(record)),
        table(columns, measured, numbers=True) if measured else "",
    ]


CARD = CardPart(introduction=_introduction, sections=_sections)
