"""The preferences of a run in the report and on the model card."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers.preference_record import RECORD, ROWS, changed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_align.preference.report import displacement, held_out, preference_view, reference, start
from hf_align.preference.report import settings as loss_settings
from hf_align.reporting.html import report_view
from hf_align.reporting.model_card import model_card
from hf_align.reporting.page import render_template
from hf_align.reporting.plots import run_plots
from hf_align.reporting.run_view import facts
from hf_align.runs.metrics import MetricsLog


def with_change(after: float, **fall_record: Any) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    record["preference_summary"]["after"]["logps/chosen_change"] = after
    record["preference_summary"]["chosen_fall"] |= fall_record
    return record


def test_other_stages_have_no_such_section() -> None:
    for command in ("sft", "reward", None):
        assert "## Preferences" not in model_card(changed(command=command), ROWS)


def test_the_settings_say_what_was_optimised() -> None:
    assert loss_settings(RECORD) == [
        ("Loss", "dpo, beta 0.1"),
        ("Reference", "models/Tiny with the adapter switched off, in the same step"),
        ("Loss at the start", "0.6932 (held-out rows), 0.6931 (first step); theory gives 0.6931"),
    ]
    several = changed(recipe__loss=["dpo", "ipo"], recipe__loss_weights=[1.0, 0.25], recipe__sft_weight=0.5)
    assert loss_settings(several)[0] == (
        "Loss",
        "1 × dpo + 0.25 × ipo + 0.5 × likelihood of the chosen answer, beta 0.1",
    )
    unweighted = changed(recipe__loss=["dpo", "ipo"])
    assert loss_settings(unweighted)[0] == ("Loss", "1 × dpo + 1 × ipo, beta 0.1")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"kind": "none", "model": None}, "none: the answers' own probabilities are compared"),
        (
            {"kind": "run beforehand", "model": "m", "rows": 1234, "reused": False},
            "m, log-probabilities of 1,234 rows computed beforehand",
        ),
        (
            {"kind": "run beforehand", "model": "m", "rows": 9, "reused": True},
            "m, log-probabilities of 9 rows taken from an earlier run",
        ),
        ({}, ""),
    ],
)
def test_the_reference_is_named(found: dict[str, Any], expected: str) -> None:
    assert reference({"reference": found}) == expected


def test_what_a_reward_is_depends_on_the_reference() -> None:
    free = preference_view(changed(reference={"kind": "none", "model": None}), ROWS)
    assert free is not None and any("long answer has less" in note for note in free["notes"])
    usual = preference_view(RECORD, ROWS)
    assert usual is not None and any("gained over the reference" in note for note in usual["notes"])


def test_a_start_that_was_not_checked_says_why() -> None:
    record = changed(start_check={"checked": False, "why": "the losses are reference-free"})
    assert start(record) == "not compared with theory: the losses are reference-free"
    assert start({}) == ""


def test_held_out_metrics_before_and_after() -> None:
    rows = {row["name"]: row["cells"] for row in held_out(RECORD)}
    assert rows["Pairs with the higher reward on the chosen answer"] == ["0 %", "95.0 %", "89.5 % to 97.7 %"]
    assert rows["Pairs whose chosen answer is likelier per token"] == [
        "70.8 %",
        "86.7 %",
        "79.4 % to 91.6 %",
    ]
    assert rows["Reward margin of the chosen answer"] == ["0", "2.75", "2.35 to 3.15"]
    assert rows["Log-probability of the chosen answers, nats"] == ["–", "-80", ""]
    assert "Pairwise loss" not in rows, "nobody measured it"
    assert held_out({"command": "dpo"}) == []


def test_a_fall_is_explained_with_the_metrics_of_the_run() -> None:
    first, general = displacement(RECORD, ROWS)
    # exp(-0.1) = 0.905
    for part in ("lost 0.1 nats per token", "held-out rows", "10% less likely", "-0.3, at step 40"):
        assert part in first
    assert "within the bound of -0.5" in first
    assert "becom" in general and "sft_weight" not in general

    first, general = displacement(with_change(-0.7, lowest=-0.9, warned_at=3), ROWS)
    assert "lost 0.7 nats" in first and "50% less likely" in first and "beyond the bound of -0.5" in first
    for remedy in ("sft_weight", "learning rate", "beta"):
        assert remedy in general

    first, general = displacement(with_change(0.4, lowest=-0.001), ROWS)
    assert "gained 0.4 nats" in first and "49% likelier than they were" in first
    # exp(1.5) = 4.48
    assert "4.5 times as likely as they were" in displacement(with_change(1.5), ROWS)[0]
    assert "Here it has not happened" in general


def test_a_fall_is_read_from_the_log_where_nothing_was_held_out() -> None:
    record = changed(preference_summary={})
    assert (
        "lost 0.6 nats per token against the reference on the training rows" in displacement(record, ROWS)[0]
    )
    held = [*ROWS, {"step": 12, "eval_loss": 0.5, "eval_logps/chosen_change": 0.25}]
    assert (
        "gained 0.25 nats" in displacement(record, held)[0]
        and "held-out rows" in displacement(record, held)[0]
    )
    assert displacement(record, []) == []
    # What was measured before the first step says nothing about training.
    assert displacement(record, [{"step": 0, "eval_loss": 0.5, "eval_logps/chosen_change": 0.0}]) == []


def test_the_page_has_the_section() -> None:
    page = render_template("report.html.jinja", **report_view(RECORD, MetricsLog(ROWS, 0), "runs/x"))
    assert '<h2 id="preferences">' in page and 'href="#preferences"' in page
    assert "dpo, beta 0.1" in page and "95.0 %" in page and "less likely" in page
    assert "perplexity" not in page, "the loss is not one of tokens"
    assert "loss per prompt" in page
    empty = {"command": "dpo", "status": "running"}
    assert '<h2 id="preferences">' in render_template(
        "report.html.jinja", **report_view(empty, MetricsLog([], 0), "runs/x")
    )


def test_the_loss_of_a_prompt_is_called_so() -> None:
    assert "loss per prompt" in str(run_plots(ROWS)[0].forms["wide"])
    tokens = [{"step": 1, "loss": 2.0, "target_tokens": 9}]
    assert "nats per target token" in str(run_plots(tokens)[0].forms["wide"])


def test_the_headlines_are_those_of_preferences() -> None:
    found = {fact.label: (fact.value, fact.detail) for fact in facts(RECORD, ROWS)}
    assert found["Held-out loss"] == ("0.693 → 0.2", "")
    assert found["Held-out accuracy"] == ("95.0 %", "95 %: 89.5 % to 97.7 %")
    assert found["Held-out reward margin"] == ("2.75", "95 %: 2.35 to 3.15")
    assert found["Chosen answer likelier"][0] == "70.8 % → 86.7 %"


def test_the_card_says_what_was_done_and_found() -> None:
    card = model_card(RECORD, ROWS)
    assert "The result of preference optimisation of `models/Tiny` on `pairs.jsonl`" in card
    assert "assistant's turns" not in card and "supervised" not in card
    section = card[card.index("## Preferences") : card.index("## Use")]
    for part in (
        "Loss: dpo, beta 0.1",
        "adapter switched off",
        "89.5 % to 97.7 %",
        "lost 0.1 nats per token",
    ):
        assert part in section


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
PARTS = ("recipe", "reference", "start_check", "preference_summary")


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_record_however_odd_breaks_it(data: st.DataObject) -> None:
    record = copy.deepcopy(RECORD)
    part = data.draw(st.sampled_from(PARTS))
    if data.draw(st.booleans()):
        record[part] = data.draw(JSON)
    else:
        key = data.draw(st.sampled_from(sorted(record[part])))
        inner = record[part][key]
        if isinstance(inner, dict) and data.draw(st.booleans()):
            inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(JSON)
        else:
            record[part][key] = data.draw(JSON)
    rows = [{"step": data.draw(JSON), "eval_loss": 1.0, "eval_logps/chosen_change": data.draw(JSON)}]
    render_template("report.html.jinja", **report_view(record, MetricsLog(rows, 0), "runs/x"))
    model_card(record, rows)
