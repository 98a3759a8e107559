"""What lm-eval found as metrics like all others: with intervals, differences between models, and subjects.

The metrics are lm-eval's own, under its names. An interval comes from the documents: of a mean of values as
everywhere here, of perplexities and bits from drawing the documents again; other metrics have none. What
runs lm-eval is in ``bridge``, which is imported here and only where a recipe asks for it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError
from hf_align.evaluation.recipe import EvaluateConfig, LmEvalConfig
from hf_align.evaluation.scoring import Scorer
from hf_align.statistics.bootstrap import bootstrap_interval, mean_and_interval
from hf_align.statistics.calibration import wilson_interval

Items = npt.NDArray[np.float64]
TaskFigures = dict[str, tuple[dict[str, Any], Items | None]]
"""By task: its metrics, and (documents, 2) what the sums of whose columns give the main one as a ratio, where
there is such a thing."""


def open_tasks(config: LmEvalConfig) -> Any:
    """The tasks of a recipe, ready to be run; None where it names none.

    Raises UserError where lm-eval is not installed and where a task cannot be loaded.
    """
    return _bridge().open_tasks(config) if config.lm_eval_tasks else None


def measure_tasks(
    scorer: Scorer, tasks: Any, config: EvaluateConfig, *, system_prompt: str | None, bar: Any
) -> TaskFigures:
    """Run ``tasks``, made by :func:`open_tasks`, on one model. ``bar``: see ``bridge.EngineLM``.

    Raises UserError for a task that asks for what is not done here.
    """
    bridge, seed = _bridge(), config.evaluation.seed
    lm = bridge.EngineLM(scorer, seed=seed, max_rows=config.generations.generation_batch_size, bar=bar)
    found = bridge.run_tasks(lm, tasks, config.lm_eval, system_prompt=system_prompt)
    return task_metrics(found, tasks.groups, seed=seed)


def _bridge() -> Any:
    try:
        return importlib.import_module("hf_align.evaluation.lm_eval.bridge")
    except ImportError as error:
        raise UserError(
            f"lm_eval_tasks: lm-eval is missing ({error}); install it with: pip install 'hf_align[lm-eval]'"
        ) from error


def task_metrics(
    found: Mapping[str, Any], groups: Mapping[str, Sequence[str]], *, seed: int = 42
) -> TaskFigures:
    """Each group that has metrics of its own, with those of its tasks as ``subjects``, and each other task.

    ``found``: what ``simple_evaluate`` returned, with samples. ``groups``: the tasks in each group. The
    metrics are ``documents``, ``shots``, ``version``, ``lm_eval_version``; every metric under lm-eval's name
    (``metric,filter`` where there are filters), with an ``_interval`` or None for it; and ``metrics``, those
    names in lm-eval's order with whether more is better (None where lm-eval does not say).
    """
    inner = {task for group, tasks in groups.items() if _metrics(found, group) for task in tasks}
    outer = {
        name: tasks
        for name, tasks in groups.items()
        if _metrics(found, name) and not any(set(tasks) < set(others) for others in groups.values())
    }
    shown: TaskFigures = {}
    for name, tasks in outer.items():
        results, items = _results(found, name, tasks, seed)
        subjects = {task: _results(found, task, [task], seed)[0] for task in tasks}
        shown[name] = ({**results, "subjects": subjects}, items)
    for name in found["samples"]:
        if name not in inner:
            shown[name] = _results(found, name, [name], seed)
    return shown


def _metrics(found: Mapping[str, Any], name: str) -> dict[str, tuple[str, str, float]]:
    """(metric, filter, value) of each metric of a task or group by the key that it gets."""
    entries = {}
    for key, value in found["results"].get(name, {}).items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr") and _is_number(value):
            entries[metric if chosen == "none" else key] = (metric, chosen, float(value))
    return entries


def _results(
    found: Mapping[str, Any], name: str, tasks: Sequence[str], seed: int
) -> tuple[dict[str, Any], Items | None]:
    higher = found["higher_is_better"].get(name, {})
    metrics = _metrics(found, name)
    version = found["versions"].get(name)  # words, where the task does not say
    results: dict[str, Any] = {
        "documents": sum(found["n-samples"][task]["effective"] for task in tasks),
        "shots": found["n-shot"].get(name),
        "version": version if isinstance(version, int | float) else None,
        "lm_eval_version": found.get("lm_eval_version"),
        "metrics": {key: higher.get(metric) for key, (metric, _, _) in metrics.items()},
    }
    main: Items | None = None
    for number, (key, (metric, chosen, value)) in enumerate(metrics.items()):
        results[key] = value
        values = _by_document(found, tasks, metric, chosen)
        results[f"{key}_interval"] = _interval(values, value, seed)
        if number == 0:
            main = _items(values, value)
    return results, main


def _by_document(found: Mapping[str, Any], tasks: Sequence[str], metric: str, chosen: str) -> list[Any]:
    rows = [row for task in tasks for row in found["samples"][task]]
    return [row[metric] for row in rows if row["filter"] == chosen and metric in row]


def _items(values: Sequence[Any], value: float) -> Items | None:
    """(documents, 2): what adds up to the numerator and the denominator of a mean, or of bits."""
    if _is_mean(values, value):
        return np.array([[float(each), 1.0] for each in values])
    table = _table(values)
    if table is None or not _equals(_bits, table, value):
        return None
    return table * np.array([-1 / math.log(2), 1.0])


def _interval(values: Sequence[Any], value: float, seed: int) -> list[float] | None:
    """95 %; None for a metric that is neither a mean of its documents nor a perplexity or bits of them."""
    if _is_mean(values, value):
        numbers = [float(each) for each in values]
        if set(numbers) <= {0.0, 1.0}:
            return list(wilson_interval(value, len(numbers)))
        interval = mean_and_interval(numbers, seed=seed)[1]
        return interval and list(interval)
    table = _table(values)
    known = [] if table is None else [each for each in (_perplexity, _bits) if _equals(each, table, value)]
    return bootstrap_interval(table, known[0], seed=seed) if table is not None and known else None


def _table(values: Sequence[Any]) -> Items | None:
    """(documents, 2) log-likelihoods in nats beside words or bytes, where the values are such pairs."""
    pairs = [
        each for each in values if isinstance(each, tuple) and list(map(_is_number, each)) == [True, True]
    ]
    return np.array(pairs, dtype=np.float64) if pairs and len(pairs) == len(values) else None


def _perplexity(sums: Items) -> Items:
    return np.exp(np.minimum(-sums[:, 0] / sums[:, 1], 700.0))


def _bits(sums: Items) -> Items:
    return -sums[:, 0] / (sums[:, 1] * math.log(2))


def _equals(ratio: Callable[[Items], Items], table: Items, value: float) -> bool:
    return math.isclose(float(ratio(table.sum(axis=0, keepdims=True))[0]), value, rel_tol=1e-9)


def _is_mean(values: Sequence[Any], value: float) -> bool:
    known = bool(values) and all(_is_number(each) for each in values)
    return known and math.isclose(math.fsum(values) / len(values), value, rel_tol=1e-9, abs_tol=1e-12)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)
