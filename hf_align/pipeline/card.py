"""``README.md`` of a pipeline: what was chained, what each stage changed, and how to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.pipeline.report import pipeline_facts, pipeline_title, pipeline_view
from hf_align.pipeline.state import PipelineRecord
from hf_align.reporting.markdown import code, inline, table
from hf_align.reporting.stage_parts import CardPart


def pipeline_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown. Every model has a card of its own in its folder, so that this one has no front
    matter of a model."""
    record = PipelineRecord.of(record)
    view = pipeline_view(record) or {"evaluations": [], "stages": [], "stage_columns": []}
    version = record.versions.get("hf_align", "")
    recipe = record.recipe_path
    parts = [
        f"# {inline(pipeline_title(record))}",
        f"Stages that build on each other, made with hf_align {inline(str(version))}. The folder of each "
        "stage holds its result with a report and a card of its own; report.html compares them.",
        table(["", "", ""], [[fact.label, fact.value, fact.detail] for fact in pipeline_facts(record)]),
    ]
    for evaluation in view["evaluations"]:
        parts += [
            "## What each stage changed",
            table(
                evaluation["columns"],
                [[row["name"], *row["cells"]] for row in evaluation["rows"]],
                numbers=True,
            ),
            inline(evaluation["note"]),
        ]
        if evaluation["changes"]:
            rows = [[row["name"], *row["cells"]] for row in evaluation["changes"]]
            parts.append(table(evaluation["change_columns"], rows))
    stages = [[row["name"], *row["cells"], row["result"]] for row in view["stages"]]
    parts += ["## Stages", table(view["stage_columns"], stages)]
    if recipe:
        parts += ["## Reproduce", code(f"hf-align pipeline --config {recipe}")]
    return "\n\n".join(parts) + "\n"


CARD = CardPart(whole=pipeline_card)
