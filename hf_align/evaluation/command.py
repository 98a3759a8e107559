"""Measure models side by side: perplexity, multiple choice, written answers, preferences, win rates."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.evaluation.recipe import EvaluateConfig
from hf_align.evaluation.record import Evaluated, EvaluateRecord
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.evaluation.run import Evaluation
    from hf_align.runs.folder import RunRecord

RESULTS_FILE = "evaluation.json"
ANSWERS_FILE = "answers.jsonl"
_MODEL = "--model_name_or_path"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json.

    ``--model_name_or_path`` may be given several times, which stands for ``--models`` with a list.
    """
    arguments = with_all_models(list(sys.argv[1:] if argv is None else argv))
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(EvaluateConfig, arguments, command="evaluate", description=__doc__ or "")
    check_inputs(config)
    return run(config)


def with_all_models(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with the values of repeated ``--model_name_or_path`` as one list for ``--models``."""
    values: list[str] = []
    others: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if name.replace("-", "_") != _MODEL.replace("-", "_"):
            others.append(argument)
        elif equals:
            values.append(value)
        elif waiting and not waiting[0].startswith("--"):
            values.append(waiting.pop(0))
        else:
            return list(arguments)  # whose error is reported where options are read
    if len(values) < 2:
        return list(arguments)
    return [*others, "--models", json.dumps(values, ensure_ascii=False)]


@releases_folders
def run(config: EvaluateConfig) -> dict[str, Any]:
    """Measure as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input.
    """
    from hf_align.evaluation.run import check_inputs, evaluate
    from hf_align.modeling.precision import runs_on_cpu
    from hf_align.runs import folder as run_folder
    from hf_align.runs import processes

    folder = config.evaluation.output_dir
    processes.start(use_cpu=runs_on_cpu(config.evaluation.use_cpu))
    run_folder.claim_output_dir(folder, resuming=False)
    # Before earlier results are moved aside.
    check_inputs(config)
    run_folder.prepare_output_dir(folder, resuming=False)
    record = run_folder.RunRecord("evaluate", config, folder, resuming=False, main=True)
    try:
        evaluation = evaluate(config, finished=lambda found: _note(record, found))
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk; the error itself says so
            record.update(EvaluateRecord(status="interrupted"))
        raise
    _finish(config, evaluation, record)
    return record.content


def _note(record: RunRecord, evaluation: Evaluation) -> None:
    found = Evaluated(models=evaluation.models, results=evaluation.results)
    record.update(EvaluateRecord(evaluation=found))


def _finish(config: EvaluateConfig, evaluation: Evaluation, record: RunRecord) -> None:
    """The files, the report, and what the terminal says."""
    from hf_align.evaluation.answer_rows import as_rows, shown_answers
    from hf_align.evaluation.results import table_lines
    from hf_align.reporting.html import write_report
    from hf_align.runs.record import encode_json, write_atomic, write_json

    _note(record, evaluation)
    if evaluation.replies:
        rows = [
            row
            for task, by_model in evaluation.replies.items()
            for model, replies in by_model.items()
            for row in as_rows(model, task, replies, evaluation.scores.get((task, model)))
        ]
        lines = b"".join(encode_json(row) + b"\n" for row in rows)
        write_atomic(Path(config.evaluation.output_dir) / ANSWERS_FILE, lines)
        record.update(EvaluateRecord(evaluation_answers=shown_answers(evaluation.replies)))
    record.update(EvaluateRecord(status="completed"))
    path = Path(config.evaluation.output_dir) / RESULTS_FILE
    write_json(path, EvaluateRecord.of(record.content).evaluation)
    page = write_report(config.evaluation.output_dir)
    for line in table_lines(evaluation.results, config.models.names):
        print(line)
    print(f"metrics: {path}; report: {page}")
