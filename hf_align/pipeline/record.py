"""What the run record of a pipeline says beside its steps: collected from the folders of all steps.

Evaluations that were repeated for several seeds are combined here into one, with the answers of their models
side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from hf_align.evaluation.record import Evaluated, EvaluateRecord
from hf_align.pipeline.seeds import combined, reward_difference_over_prompts
from hf_align.pipeline.state import Collected
from hf_align.reporting.html import headline_facts
from hf_align.reporting.run_view import mapping
from hf_align.runs.metrics import METRICS_FILE, read_metrics
from hf_align.runs.record import RUN_FILE
from hf_align.runs.schema import Record

Row = Mapping[str, Any]

SHOWN_FACTS = 3
ANSWERS_FILE = "answers.jsonl"


def collect(steps: Sequence[Row], *, seed: int) -> Collected:
    """``steps``: facts about each, by name; ``evaluations``: one for each stage of evaluation.

    ``steps``: as in the run record of a pipeline; what has not run yet is left out. ``seed``: of intervals.
    """
    records = {str(step["name"]): _read(Path(str(step["output_dir"]), RUN_FILE)) for step in steps}
    facts = {
        str(step["name"]): _facts(records[str(step["name"])], Path(str(step["output_dir"]))) for step in steps
    }
    stages = dict.fromkeys(str(step["stage"]) for step in steps if step["command"] == "evaluate")
    evaluations = []
    for stage in stages:
        mine = [step for step in steps if step["stage"] == stage]
        found = [(step, EvaluateRecord.of(records[str(step["name"])]).evaluation) for step in mine]
        if all(evaluation.results for _, evaluation in found):
            evaluations.append(_evaluation(stage, found, records, steps, seed))
    return Collected(steps=facts, evaluations=evaluations)


def _read(path: Path) -> Record:
    try:
        return Record.of(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return Record()


def _facts(record: Record, folder: Path) -> dict[str, Any]:
    rows = read_metrics(folder / METRICS_FILE).rows
    facts = headline_facts(record, rows) if record else []
    return {
        "status": record.status or None,
        "seconds": record.wall_time_seconds,
        "peak_memory_bytes": record.peak_memory_bytes,
        "facts": [[fact.label, fact.value, fact.detail] for fact in facts[:SHOWN_FACTS]],
    }


def _evaluation(
    stage: str,
    found: Sequence[tuple[Row, Evaluated]],
    records: Mapping[str, Record],
    steps: Sequence[Row],
    seed: int,
) -> dict[str, Any]:
    """One stage of evaluation over all its seeds."""
    stages = {str(step["name"]): str(step["stage"]) for step in steps}
    results = combined([_named_by_stage(evaluation, stages) for _, evaluation in found])
    models = [mapping(model) for model in found[0][1].models]
    first = str(models[0].get("name"))
    rewards = [_rewards(Path(str(step["output_dir"]), ANSWERS_FILE), stages) for step, _ in found]
    _add_intervals_over_prompts(results, first, rewards, seed)
    return {
        "stage": stage,
        "seeds": [step["seed"] for step, _ in found],
        "baseline": first,
        "models": [
            {
                "name": str(model.get("name")),
                "stage": stages.get(PurePath(str(model.get("path"))).name),
                "step": PurePath(str(model.get("path"))).name,
            }
            for model in models
        ],
        "results": results,
        "answers": EvaluateRecord.of(records[str(found[0][0]["name"])]).evaluation_answers,
    }


def _named_by_stage(evaluation: Evaluated, stages: Mapping[str, str]) -> dict[str, Any]:
    """``evaluation`` with tasks called after the stage that made their judge, which differs between seeds."""
    results = {
        kind: {_task(task, stages): by_model for task, by_model in mapping(tasks).items()}
        for kind, tasks in evaluation.results.items()
    }
    return {**evaluation, "results": results}


def _task(task: str, stages: Mapping[str, str]) -> str:
    """``notes, by reward`` for ``notes, by reward-seed1``."""
    what, by, judge = task.rpartition(", by ")
    return f"{what}{by}{stages.get(judge, judge)}"


Rewards = dict[tuple[str, str], list[float]]


def _add_intervals_over_prompts(
    results: Mapping[str, Any], first: str, rewards: Sequence[Rewards], seed: int
) -> None:
    """Give differences in reward the interval that other prompts would move them in (``over_prompts``).

    ``rewards``: as :func:`_rewards` reads them, for each seed.
    """
    for task, by_model in mapping(results.get("reward")).items():
        for model, found in by_model.items():
            ours = [mine.get((task, first), []) for mine in rewards]
            theirs = [mine.get((task, model), []) for mine in rewards]
            same = len({len(values) for values in [*ours, *theirs]}) == 1
            change = found["differences"].get("reward")
            if len(rewards) > 1 and change and same and ours[0]:
                change["over_prompts"] = reward_difference_over_prompts(ours, theirs, seed=seed)


def _rewards(path: Path, stages: Mapping[str, str]) -> Rewards:
    """By the name of a reward metric and by model: the reward of each answer, in the order of the rows."""
    found: Rewards = {}
    try:
        # Not splitlines: an answer may hold other line ends, such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        return found
    for line in filter(None, lines):
        row = json.loads(line)
        for name, value in mapping(row.get("rewards")).items():
            key = (_task(f"{row['task']}, by {name}", stages), str(row["model"]))
            found.setdefault(key, []).append(float(value))
    return found
