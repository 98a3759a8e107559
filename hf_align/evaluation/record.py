"""What an evaluation adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Record, entry


class Evaluated(Fields):
    """The entry ``evaluation``, which is ``evaluation.json`` as well."""

    models: list[Any] = entry("`name`, `path`, `class`, `parameters`, … of each model")
    results: dict[str, Any] = entry("metrics by kind, task and model")


class EvaluateRecord(Record):
    """The entries of run.json of ``hf-align evaluate``."""

    evaluation: Evaluated = entry("models and metrics")
    evaluation_answers: list[Any] = entry("some prompts with the answer of every model")
