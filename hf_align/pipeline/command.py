"""Run the stages of one recipe, from a tokenizer to aligned models, and compare what each has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_align.pipeline.recipe import Pipeline, load_pipeline


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json.

    With ``--dry_run true`` nothing runs, and what is returned is the plan.
    """
    # Every stage's recipe is checked before anything heavy is imported.
    return run(load_pipeline(argv, description=__doc__ or ""))


def run(pipeline: Pipeline) -> dict[str, Any]:
    """Run the steps of ``pipeline`` that are not up to date; returns the content of run.json.

    Raises UserError for wrong input. Steps that are done stay, and the same call goes on.
    """
    from hf_align.pipeline.run import plan, plan_lines, run_pipeline

    planned = plan(pipeline)
    print("\n".join(plan_lines(planned)), flush=True)
    if pipeline.options.dry_run:
        return {
            "plan": [
                {"name": each.step.name, "action": each.action, "reason": each.reason} for each in planned
            ]
        }
    from hf_align.pipeline.record import collect
    from hf_align.pipeline.report import summary_lines
    from hf_align.pipeline.state import PipelineRecord
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    seed, folder = pipeline.options.seed, pipeline.options.output_dir
    record = run_pipeline(
        pipeline, planned, finish=lambda found: PipelineRecord(pipeline=collect(found.steps, seed=seed))
    )
    page = write_report(folder)
    write_model_card(folder)
    print("\n".join(["", *summary_lines(record), f"report: {page}"]))
    return record
