"""What pre-training says in its model card: the held-out text, and how the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.pretraining.report import (
    columns,
    held_out,
    notes,
    pipeline_tag,
    pretraining_loading,
    settings,
)
from hf_align.reporting.markdown import inline, table
from hf_align.reporting.stage_parts import CardPart, Sources


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    return [f"The result of pre-training{said.of}{said.on}, made with {said.made_with}."]


def _sections(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [[row["name"], *row["cells"]] for row in held_out(record)]
    return [
        "## Held-out text",
        "\n".join(f"- {name}: {inline(text)}" for name, text in settings(record)),
        table(columns(record), measured, numbers=True) if measured else "",
        *(inline(note) for note in notes(record)),
    ]


CARD = CardPart(
    introduction=_introduction,
    sections=_sections,
    loading=pretraining_loading,
    front_matter=lambda record: {"pipeline_tag": pipeline_tag(record)},
)
