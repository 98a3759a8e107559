"""Results of lm-eval as metrics of ours: by hand, and from a record as lm-eval writes it."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from hf_align.config import KeyProblem
from hf_align.errors import UserError
from hf_align.evaluation.lm_eval.metrics import open_tasks, task_metrics
from hf_align.evaluation.recipe import EvaluateConfig, EvaluationConfig, LmEvalConfig, ModelsConfig
from hf_align.evaluation.results import (
    difference_written,
    higher_is_better,
    main_metric,
    metric_names,
    table_lines,
    with_differences,
    written,
)


def result(tasks: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]], **groups: Any) -> dict[str, Any]:
    """What ``simple_evaluate`` returns: for each task its metrics and the rows of its documents."""
    return {
        "results": {name: metrics for name, (metrics, _) in tasks.items()} | groups,
        "samples": {name: [{"filter": "none", **row} for row in rows] for name, (_, rows) in tasks.items()},
        "n-samples": {name: {"effective": len(rows)} for name, (_, rows) in tasks.items()},
        "n-shot": dict.fromkeys([*tasks, *groups], 2),
        "versions": dict.fromkeys(tasks, 1.0),
        "higher_is_better": {name: {"acc": True, "bits_per_byte": False} for name in [*tasks, *groups]},
        "lm_eval_version": "0.4.13",
    }


CITIES = (
    {"alias": "cities", "acc,none": 0.75, "acc_stderr,none": "N/A", "acc_norm,none": 0.5},
    [{"acc": x, "acc_norm": y} for x, y in ((1.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0))],
)
TOWNS = ({"acc,none": 0.0}, [{"acc": 0.0}])


def test_a_task_by_hand():
    found = task_metrics(result({"cities": CITIES}), {})
    metrics, items = found["cities"]
    assert (metrics["documents"], metrics["shots"], metrics["version"]) == (4, 2, 1.0)
    assert (metrics["acc"], metrics["acc_norm"]) == (0.75, 0.5)
    assert metrics["metrics"] == {"acc": True, "acc_norm": None}
    # Wilson's interval of 3 in 4, as Brown, Cai and DasGupta (2001) compute it.
    assert metrics["acc_interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    assert items.tolist() == [[1, 1], [1, 1], [1, 1], [0, 1]]


def test_perplexities_and_bits_are_drawn_again_from_the_documents():
    # Two documents of 2 words: 2 nats a word, and 1.
    rows = [
        {"word_perplexity": (-4.0, 2), "bits_per_byte": (-4.0, 8)},
        {"word_perplexity": (-2.0, 2), "bits_per_byte": (-2.0, 8)},
    ]
    totals = {"word_perplexity,none": math.exp(1.5), "bits_per_byte,none": 6 / 16 / math.log(2)}
    metrics, items = task_metrics(result({"texts": (totals, rows)}), {})["texts"]
    # Drawn again there are both, twice the first, or twice the second.
    assert metrics["word_perplexity_interval"] == pytest.approx([math.e, math.e**2])
    assert metrics["bits_per_byte_interval"] == pytest.approx([0.25 / math.log(2), 0.5 / math.log(2)])
    assert items is None
    del totals["word_perplexity,none"]
    _, bits = task_metrics(result({"texts": (totals, rows)}), {})["texts"]
    assert bits.sum(axis=0).tolist() == pytest.approx([6 / math.log(2), 16])
    assert higher_is_better("lm_eval", {"a": metrics}, "bits_per_byte") is False


def test_metrics_that_are_no_mean_have_no_interval_and_filters_keep_their_names():
    rows = [
        {"bleu": ("a", "b"), "filter": "first", "exact_match": 1.0},
        {"bleu": ("c", "d"), "filter": "first"},
    ]
    totals = {"bleu,first": 12.5, "exact_match,first": 1.0, "name": "t", "other,first": "N/A"}
    metrics, items = task_metrics(result({"t": (totals, rows)}), {})["t"]
    assert list(metrics["metrics"]) == ["bleu,first", "exact_match,first"]
    assert (metrics["bleu,first"], metrics["bleu,first_interval"], items) == (12.5, None, None)
    assert metric_names("lm_eval", {"a": metrics})["exact_match,first"] == "exact_match, first"
    assert written("lm_eval", metrics, "bleu,first") == "12.5"
    assert written("lm_eval", metrics, "exact_match,first").startswith("100.0 % [")


def test_a_group_has_its_tasks_as_subjects_and_one_without_metrics_shows_them():
    both = {"cities": CITIES, "towns": TOWNS}
    groups = {"places": ["cities", "towns"], "inner": ["cities"]}
    found = task_metrics(result(both, places={"acc,none": 0.6}, inner={"acc,none": 0.75}), groups)
    ((name, (metrics, items)),) = found.items()
    assert (name, metrics["documents"], metrics["acc"], len(items)) == ("places", 5, 0.6, 5)
    assert list(metrics["subjects"]) == ["cities", "towns"]
    assert metrics["subjects"]["towns"]["acc"] == 0.0
    # A mean over tasks, and not over documents, has no items that would add up to it.
    weighted = task_metrics(result(both, places={"acc,none": 0.375}), {"places": ["cities", "towns"]})
    assert weighted["places"][1] is None and weighted["places"][0]["acc_interval"] is None
    plain = task_metrics(result(both, places={"alias": "places"}), {"places": ["cities", "towns"]})
    assert list(plain) == ["cities", "towns"]


def test_the_table_and_the_difference_of_two_models():
    right = [{"acc": 1.0, "acc_norm": 1.0}] * 4
    other = ({"acc,none": 1.0, "acc_norm,none": 1.0}, right)
    results: Any = {"lm_eval": {"cities": {}}}
    items = {}
    for model, task in (("a", CITIES), ("b", other)):
        metrics, rows = task_metrics(result({"cities": task}), {})["cities"]
        results["lm_eval"]["cities"][model] = metrics
        items["lm_eval", "cities", model] = rows
    with_differences(results, items, ["a", "b"], seed=1)
    by_model = results["lm_eval"]["cities"]
    assert by_model["b"]["difference"]["value"] == 0.25
    assert difference_written("lm_eval", by_model["b"]).startswith("+25.0 points [")
    assert main_metric("lm_eval", by_model) == "acc"
    lines = [line.split() for line in table_lines(results, ["a", "b"])]
    assert lines[2][:4] == ["cities", "acc", "75.0", "%"]
    assert [line[0] for line in lines[3:]] == ["acc_norm", "acc,"]


def test_lm_eval_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "hf_align.evaluation.lm_eval.bridge", raising=False)
    assert open_tasks(LmEvalConfig()) is None
    with pytest.raises(UserError, match=r"lm-eval is missing .*pip install 'hf_align\[lm-eval\]'"):
        open_tasks(LmEvalConfig(["hellaswag"]))


def test_keys_that_would_have_no_effect():
    for options in ({"lm_eval_limit": 3}, {"lm_eval_num_fewshot": 0}, {"lm_eval_include_path": "x"}):
        with pytest.raises(KeyProblem, match="no effect without lm_eval_tasks"):
            LmEvalConfig(**options)
    with pytest.raises(KeyProblem, match="there is nothing to measure"):
        EvaluateConfig(ModelsConfig("m"), EvaluationConfig())
    assert EvaluateConfig(ModelsConfig("m"), lm_eval=LmEvalConfig("piqa")).lm_eval.lm_eval_tasks == ["piqa"]
