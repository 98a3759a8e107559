"""The facts that the report and the model card share."""

from __future__ import annotations

import pytest

from hf_align.reporting.run_view import LossChange, facts, loss_change, method, model_name


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"adapter": "none"}, "full fine-tuning"),
        ({"adapter": "lora", "lora_r": 16}, "LoRA (r = 16)"),
        (
            {"adapter": "lora", "lora_r": 8, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "QLoRA (NF4, r = 8)",
        ),
        ({"adapter": "lora", "lora_r": 8, "load_in_8bit": True}, "LoRA (int8 base, r = 8)"),
        ({"adapter": "lora", "lora_r": 8, "use_dora": True}, "DoRA (r = 8)"),
        (
            {"adapter": "qlora", "lora_r": 8, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "QLoRA (NF4, r = 8)",
        ),
        # A recipe in run.json holds every key, also those of methods that it does not use.
        ({"adapter": "bottleneck", "lora_r": 8, "bottleneck_placement": "parallel"}, "bottleneck (parallel)"),
        (
            {"adapter": "ia3", "lora_r": 8, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "ia3 (NF4 base)",
        ),
        ({"adapter": "none", "trainable": ["last_k:2", "norms"]}, "chosen weights (last_k:2, norms)"),
        ({}, "–"),
    ],
)
def test_method(recipe, expected):
    assert method({"recipe": recipe}) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("models/A-1B", "A-1B"), ("org/A", "A"), ("/x/y/", "y"), ("gpt2", "gpt2"), (None, "unnamed model")],
)
def test_model_name(name, expected):
    assert model_name({"recipe": {"model_name_or_path": name}}) == expected


TRAIN = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


@pytest.mark.parametrize(
    ("final", "rows", "expected"),
    [
        ({"eval_loss_before": 3, "eval_loss": 1}, TRAIN, LossChange("Held-out loss", 3, 1)),
        ({}, [{"step": 0, "eval_loss": 4}, *TRAIN], LossChange("Held-out loss", 4, None)),
        ({}, [{"step": 0, "eval_loss": 4}, {"step": 2, "eval_loss": 2}], LossChange("Held-out loss", 4, 2)),
        ({}, [{"step": 2, "eval_loss": 2}], LossChange("Held-out loss", None, 2)),
        ({"train_loss": 2.4}, TRAIN, LossChange("Training loss", 3, 2)),
        ({}, TRAIN[:1], LossChange("Training loss", None, 3)),
        ({"train_loss": 2.4}, [], LossChange("Training loss", None, 2.4)),
        ({}, [], LossChange("Training loss", None, None)),
    ],
)
def test_loss_before_and_after(final, rows, expected):
    assert loss_change({"final_metrics": final}, rows) == expected


def by_label(record, rows=()):
    return {fact.label: (fact.value, fact.detail) for fact in facts(record, list(rows))}


def test_an_unfinished_run_takes_its_numbers_from_the_log():
    rows = [
        {
            "step": step,
            "loss": 1.0,
            "time_seconds": 60 * step,
            "tokens_per_second": speed,
            "peak_memory_bytes": memory,
        }
        for step, speed, memory in ((1, 10, 2**30), (2, 1000, 3 * 2**30), (3, 200, 2**30))
    ]
    found = by_label({}, rows)
    assert found["Wall time"] == ("3 min 00 s", "3 steps")
    assert found["Throughput"][0] == "200 tokens/s"
    assert found["Peak memory"][0] == "3 GiB"


def test_the_log_of_a_running_run_is_ahead_of_its_record():
    rows = [{"step": 9, "loss": 1.0, "time_seconds": 300.0}]
    assert by_label({"wall_time_seconds": 40.0}, rows)["Wall time"][0] == "5 min 00 s"
    assert by_label({"wall_time_seconds": 400.0}, rows)["Wall time"][0] == "6 min 40 s"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"before": 0.0, "after": 0.5}, ("0 % → 50.0 %", "of 2 held-out prompts")),
        ({"before": 0.0}, ("0 %", "of 2 held-out prompts, before training")),
    ],
)
def test_exact_answers(match, expected):
    record = {"sample_exact_match": match, "generations": [{}, {}]}
    assert by_label(record)["Samples answered exactly"] == expected


def test_calls_of_tools_have_an_interval():
    calls = {"rows": 72, "exact": {"before": 0.0, "after": 0.75}, "other_rows": 0, "none": {}}
    found = by_label({"sample_calls": calls})
    assert found["Calls exactly right"] == (
        "0 % → 75.0 %",
        "function and arguments; 95 %: 64 to 84, of 72 held-out prompts",
    )
    assert "No call where none is due" not in found and "Calls of the right function" not in found


def test_a_loss_that_is_not_a_number_is_shown_as_such():
    found = by_label({"final_metrics": {"eval_loss_before": 2.0, "eval_loss": "NaN"}})
    assert found["Held-out loss"][0] == "2 → NaN"


def test_perplexity_is_the_exponential_of_the_loss_where_it_was_not_logged():
    assert by_label({"final_metrics": {"eval_loss": 2.302585}})["Held-out loss"] == ("2.303", "perplexity 10")


def test_target_tokens_of_the_training_sources_and_their_share():
    report = {
        "sources": [{"tokens": 2000, "target_tokens": 500}, {"role": "eval", "tokens": 9, "target_tokens": 9}]
    }
    found = by_label({"data_report": report | {"train_rows": 40}})
    assert found["Target tokens in the data"] == ("500", "25.0 % of 2 k tokens")
    assert found["Training rows"] == ("40", "")


def test_an_empty_record_has_the_method_only():
    assert by_label({}) == {"Method": ("–", "")}
