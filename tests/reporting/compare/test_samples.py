"""Generations of several runs to the same prompts."""

from __future__ import annotations

from helpers.compared_runs import generation, run

from hf_align.reporting.compare.samples import shared_generations


def test_generations_of_the_same_prompts_stand_together():
    a = run("A", generations=[generation("p1", "yes"), generation("p2", "yes"), generation("p3", "x")])
    b = run("B", generations=[generation("p2", "no"), generation("p1", "yes ")])
    views, note = shared_generations([a, b])
    assert [view["prompt"] for view in views] == ["p2", "p1"]
    assert [answer["name"] for answer in views[0]["answers"]] == [
        "Before training", "A · run A", "B · run B", "Reference",
    ]  # fmt: skip
    assert [answer["text"] for answer in views[0]["answers"]] == ["before", "yes", "no", "yes"]
    assert views[0]["answers"][1]["note"] == "equals the reference, stopped by itself"
    assert note.startswith("2 prompts in at least two runs, 1 of them answered differently")
    assert "1 more was sampled in one run only" in note


def test_generations_that_do_not_match():
    a, b = run("A", generations=[generation("p1", "x")]), run("B", generations=[generation("p2", "x")])
    assert shared_generations([a, b]) == ([], "The runs have no sampled prompt in common.")
    assert shared_generations([run("A"), run("B", generations="broken")]) == ([], "")
    c = run("C", generations=[generation("p1", None, before="other")])
    (view,), _ = shared_generations([a, b, c])
    assert [(answer["name"], answer["missing"]) for answer in view["answers"]] == [
        ("A · run A", ""), ("B · run B", "not sampled"), ("C · run C", "not generated"), ("Reference", ""),
    ]  # fmt: skip
