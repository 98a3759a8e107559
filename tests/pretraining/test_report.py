"""What a pre-training run adds to the page: size and estimate, held-out text, stages, averaged weights."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hf_align.pretraining.report import (
    columns,
    held_out,
    notes,
    pipeline_tag,
    pretraining_loading,
    pretraining_view,
    settings,
)

SET = {"name": "text", "target_tokens": 1000, "unigram_entropy": 5.0, "loss": 2.0, "perplexity": 7.389}
RECORD: dict[str, Any] = {
    "command": "pretrain",
    "recipe": {"output_dir": "runs/p"},
    "model": {
        "kind": "decoder",
        "parameters": 1000,
        "estimated_parameters": 950,
        "vocabulary": 10,
        "layers": 2,
        "width": 8,
        "training_flops_by_position": 6e6,
    },
    "pretraining": {
        "objective": "causal",
        "before": [{**SET, "loss": 4.0}],
        "after": [SET],
        "averaged": ["step 1", "step 2"],
        "eval_loss_last": 2.5,
        "stages": [{"steps": 5, "rows": 8, "block_length": 16, "learning_rate": 1e-3, "course": "linear"}],
    },
    "final_metrics": {"eval_loss": 2.0, "eval_pair_accuracy": 0.75},
}


def test_settings_in_words() -> None:
    words = dict(settings(RECORD))
    assert words["Objective"] == "causal" and words["Parameters"] == "1,000"
    assert words["Estimate V·H + 12·L·H²"] == "950 (−5.0%; V = 10, L = 2, H = 8)"
    assert words["Stages"] == "5 steps of 8 rows of up to 16 tokens, at 0.001 (linear)"
    assert words["Weights"] == "mean of 2 checkpoints: step 1, step 2"


def test_held_out_text() -> None:
    (row,) = held_out(RECORD)
    assert row["name"] == "text" and len(row["cells"]) == len(columns(RECORD)) - 1
    assert row["cells"][0] == "1,000" and "4" in row["cells"][2] and "2" in row["cells"][2]
    said = " ".join(notes(RECORD))
    assert "75" in said and "has the held-out loss 2, the last of them 2.5" in said


@pytest.mark.parametrize("missing", ["model", "pretraining", "final_metrics", "recipe"])
def test_whatever_is_missing(missing: str) -> None:
    assert pretraining_view({**RECORD, missing: None}) is not None


@pytest.mark.parametrize(("kind", "tag"), [("decoder", "text-generation"), ("encoder", "fill-mask")])
def test_loading(kind: str, tag: str) -> None:
    record = {**RECORD, "model": {"kind": kind}}
    assert pipeline_tag(record) == tag
    (lines,) = re.findall(r"```python\n(.*?)\n```", pretraining_loading(record), re.DOTALL)
    compile(lines, "card", "exec")
    assert "runs/p" in lines
