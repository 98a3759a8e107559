"""The preferences of a run in the report, on the model card and in comparisons."""

from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_align.reporting.compared_run import ComparedRun
from hf_align.reporting.comparison import comparison_view
from hf_align.reporting.comparison_tables import headline_table
from hf_align.reporting.html import render_template, report_view
from hf_align.reporting.metrics import MetricsLog
from hf_align.reporting.model_card import model_card
from hf_align.reporting.plots import run_plots
from hf_align.reporting.preference_plots import preference_plots
from hf_align.reporting.preference_view import fall, held_out, preference_view, reference, start
from hf_align.reporting.preference_view import settings as loss_settings
from hf_align.reporting.run_view import facts

RECORD: dict[str, Any] = {
    "command": "dpo",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/Tiny",
        "datasets": [{"path": "pairs.jsonl"}],
        "eval_datasets": [{"path": "held.jsonl"}],
        "train_on": "assistant",
        "adapter": "lora",
        "lora_r": 8,
        "loss": ["dpo"],
        "loss_weights": None,
        "beta": 0.1,
        "sft_weight": 0.0,
        "output_dir": "runs/x",
    },
    "reference": {"kind": "adapter switched off", "model": "models/Tiny"},
    "start_check": {
        "checked": True,
        "expected": 0.6931471805599453,
        "found": {"held-out rows": 0.69315, "first step": 0.69314},
    },
    "preference_summary": {
        "before": {
            "prompts": 120,
            "accuracy": 0.0,
            "accuracy_interval": [0.0, 0.03],
            "likelihood_accuracy": 0.708,
            "margin": 0.0,
            "logps/chosen_change": 0.0,
        },
        "after": {
            "prompts": 120,
            "accuracy": 0.95,
            "accuracy_interval": [0.895, 0.977],
            "likelihood_accuracy": 0.867,
            "likelihood_accuracy_interval": [0.794, 0.916],
            "margin": 2.75,
            "margin_interval": [2.35, 3.15],
            "logps/chosen": -80.0,
            "logps/chosen_change": -0.1,
            "kl": 0.2,
        },
        "chosen_fall": {"bound": 0.5, "lowest": -0.3, "step": 40, "warned_at": None},
    },
    "final_metrics": {"eval_loss_before": 0.693, "eval_loss": 0.2, "eval_prompts": 120},
}
ROWS: list[dict[str, Any]] = [
    {
        "step": step,
        "loss": 0.7 / step,
        "prompts": 8,
        "rewards/chosen": 0.1 * step,
        "rewards/rejected": -0.2 * step,
        "rewards/margins": 0.3 * step,
        "rewards/accuracies": min(1.0, 0.1 * step),
        "logps/chosen": -80.0 - step,
        "logps/rejected": -90.0 - step,
        "logps/chosen_change": -0.05 * step,
        "kl": 0.01 * step,
    }
    for step in range(1, 13)
]
ROWS += [
    {"step": step, "eval_loss": 0.5, "eval_prompts": 5, "eval_rewards/margins": 0.1 * step}
    for step in (0, 12)
]


def changed(**changes: Any) -> dict[str, Any]:
    """The record with entries replaced; ``part__key`` replaces one inside a part."""
    record = copy.deepcopy(RECORD)
    for name, value in changes.items():
        part, inner, key = name.partition("__")
        if inner:
            record[part][key] = value
        else:
            record[part] = value
    return record


def with_change(after: float, **fall_record: Any) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    record["preference_summary"]["after"]["logps/chosen_change"] = after
    record["preference_summary"]["chosen_fall"] |= fall_record
    return record


def test_other_stages_have_no_such_section() -> None:
    for command in ("sft", "reward", None):
        assert preference_view(changed(command=command), ROWS) is None
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
        "1 × dpo + 0.25 × ipo + 0.5 × likelihood of the better answer, beta 0.1",
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


def test_held_out_figures_before_and_after() -> None:
    rows = {row["name"]: row["cells"] for row in held_out(RECORD)}
    assert rows["Pairs with the higher reward on the better answer"] == ["0 %", "95.0 %", "89.5 % to 97.7 %"]
    assert rows["Pairs whose better answer is likelier per token"] == [
        "70.8 %",
        "86.7 %",
        "79.4 % to 91.6 %",
    ]
    assert rows["Reward margin of the better answer"] == ["0", "2.75", "2.35 to 3.15"]
    assert rows["Log-probability of the better answers, nats"] == ["–", "-80", ""]
    assert "Pairwise loss" not in rows, "nobody measured it"
    assert held_out({"command": "dpo"}) == []


def test_a_fall_is_explained_with_the_figures_of_the_run() -> None:
    first, general = fall(RECORD, ROWS)
    # exp(-0.1) = 0.905
    for part in ("lost 0.1 nats per token", "held-out rows", "10% less likely", "-0.3, at step 40"):
        assert part in first
    assert "within the bound of -0.5" in first
    assert "becom" in general and "sft_weight" not in general

    first, general = fall(with_change(-0.7, lowest=-0.9, warned_at=3), ROWS)
    assert "lost 0.7 nats" in first and "50% less likely" in first and "beyond the bound of -0.5" in first
    for remedy in ("sft_weight", "learning rate", "beta"):
        assert remedy in general

    first, general = fall(with_change(0.4, lowest=-0.001), ROWS)
    assert "gained 0.4 nats" in first and "49% likelier than they were" in first
    # exp(1.5) = 4.48
    assert "4.5 times as likely as they were" in fall(with_change(1.5), ROWS)[0]
    assert "Here it has not happened" in general


def test_a_fall_is_read_from_the_log_where_nothing_was_held_out() -> None:
    record = changed(preference_summary={})
    assert "lost 0.6 nats per token against the reference on the training rows" in fall(record, ROWS)[0]
    held = [*ROWS, {"step": 12, "eval_loss": 0.5, "eval_logps/chosen_change": 0.25}]
    assert "gained 0.25 nats" in fall(record, held)[0] and "held-out rows" in fall(record, held)[0]
    assert fall(record, []) == []
    # What was measured before the first step says nothing about training.
    assert fall(record, [{"step": 0, "eval_loss": 0.5, "eval_logps/chosen_change": 0.0}]) == []


def test_every_quantity_has_a_drawing_that_stands_beside_others() -> None:
    plots = preference_plots(ROWS, bound=0.5)
    assert [plot.title for plot in plots] == [
        "Rewards",
        "Reward margin",
        "Pairs in the right order",
        "Log-probability of the answers",
        "Change of the better answers",
        "Distance from the reference",
    ]
    ids: list[str] = []
    for plot in plots:
        (drawing,) = plot.forms.values()
        root = ElementTree.fromstring(str(drawing))
        ids += [element.get("id", "") for element in root.iter() if element.get("id")]
        assert "#0" not in str(drawing), "colours come from the page"
    assert len(ids) == len(set(ids))
    rewards = plots[0]
    assert "Training (better answers) from 0.1 to 1.2, steps 1 to 12" in rewards.summary
    assert "training (worse answers) from -0.2 to -2.4" in rewards.summary
    assert "better answers" in str(rewards.forms["small"]) and "worse answers" in str(rewards.forms["small"])
    assert "held-out from 0 to 1.2, steps 0 to 12" in plots[1].summary
    assert plots[1].note == "Diamonds: held-out prompts." and not plots[0].note
    # The curve ends at -0.6: the bound is near enough to be shown.
    assert "warned below" in str(plots[4].forms["small"])
    assert "warned below" not in str(preference_plots(ROWS, bound=9.0)[4].forms["small"])


def test_only_what_was_logged_is_drawn() -> None:
    assert preference_plots([]) == []
    without = [{key: row[key] for key in row if "chosen_change" not in key and key != "kl"} for row in ROWS]
    assert len(preference_plots(without)) == 4
    bad = [{**row, "kl": float("nan") if row.get("step") == 3 else row.get("kl")} for row in ROWS]
    assert "at step 3 the value was not finite" in preference_plots(bad)[-1].note


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
    assert found["Better answer likelier"][0] == "70.8 % → 86.7 %"


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


def compared(mark: str, **changes: Any) -> ComparedRun:
    record = changed(**changes)
    record["final_metrics"] |= {
        "eval_kl_before": 0.0,
        "eval_rewards/accuracies": 0.9,
        "eval_rewards/margins": 1.0,
        "eval_kl": 0.1,
    }
    if mark == "B":
        record["final_metrics"] |= {
            "eval_loss": 22.0,
            "eval_rewards/accuracies": 0.95,
            "eval_rewards/margins": 2.0,
            "eval_kl": 0.2,
        }
    return ComparedRun(mark, f"run {mark}", f"runs/{mark}", record, MetricsLog(ROWS, 0))


def best(runs: list[ComparedRun], label: str) -> list[bool]:
    (row,) = [row for row in headline_table(runs)[0] if row["label"] == label]
    return [cell["best"] for cell in row["cells"]]


def test_runs_of_different_losses_share_only_what_they_can() -> None:
    runs = [compared("A"), compared("B", recipe__loss=["ipo"])]
    assert best(runs, "Held-out pairs in the right order") == [False, True]
    assert best(runs, "Held-out loss") == [False, False], "25 is where IPO begins"
    assert best(runs, "Held-out reward margin") == [False, False]
    assert any("different losses" in note for note in headline_table(runs)[1])
    assert best(runs, "Held-out pairs whose better answer is likelier per token") == [False, False]
    labels = [row["label"] for row in headline_table(runs)[0]]
    assert "Held-out loss before" in labels and "eval_kl_before" not in labels
    titles = [plot.title for plot in comparison_view(runs)["plots"]]
    assert "Pairs in the right order" in titles and "Reward margin" in titles
    other_beta = [compared("A"), compared("B", recipe__beta=0.5)]
    assert best(other_beta, "Held-out loss") == [False, False]


def test_runs_of_the_same_loss_are_compared() -> None:
    runs = [compared("A"), compared("B", recipe__lora_r=4)]
    assert best(runs, "Held-out loss") == [True, False]
    assert best(runs, "Held-out reward margin") == [False, True]
    assert best(runs, "Held-out distance from the reference, nats per token") == [False, False]
    assert headline_table(runs)[1] == []
