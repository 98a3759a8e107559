"""Records and metrics of runs that are compared."""

from __future__ import annotations

import copy

from hf_align.reporting.compare.page import comparison_view
from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.page import render_template
from hf_align.runs.metrics import MetricsLog
from hf_align.runs.schema import Record

RECORD = {
    "command": "sft",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/Tiny",
        "datasets": [{"path": "a.jsonl", "weight": 1.0, "split": "train"}],
        "eval_datasets": [{"path": "e.jsonl"}],
        "adapter": "lora",
        "lora_r": 8,
        "learning_rate": 0.002,
        "run_name": None,
        "output_dir": "runs/x",
    },
    "machine": {"cpu": "Some CPU", "cores": 2, "accelerator": None},
    "versions": {"torch": "2.13"},
    "data_report": {
        "sources": [{"name": "a", "read": 9, "dropped": 0, "tokens": 90, "target_tokens": 30}],
        "train_rows": 9,
        "eval_rows": 3,
        "fingerprint": "f1",
    },
    "final_metrics": {"eval_loss": 0.5, "eval_token_accuracy": 0.9, "train_loss": 0.7, "steps": 8},
    "tokens_per_second": 100.0,
    "peak_memory_bytes": 2**30,
    "wall_time_seconds": 60.0,
}

ROWS = [
    {"step": step, "time_seconds": 10.0 * step, "loss": 2.0 / step, "target_tokens": 50, "learning_rate": 0.1}
    for step in range(1, 9)
] + [{"step": 8, "time_seconds": 85.0, "eval_loss": 0.5, "eval_target_tokens": 30}]


def run(mark, *, rows=ROWS, name=None, **changes):
    record = copy.deepcopy(RECORD)
    for key, value in changes.items():
        part, dot, inner = key.partition("__")
        if dot:
            record[part][inner] = value
        else:
            record[part] = value
    return ComparedRun(
        mark, name or f"run {mark}", f"runs/{mark}", Record.of(record), MetricsLog(list(rows), 0)
    )


def cells(rows, label):
    (row,) = [row for row in rows if row["label"] == label]
    return [cell["text"] for cell in row["cells"]]


def page_of(runs):
    return render_template("comparison.html.jinja", **comparison_view(runs))


def generation(prompt, after, before="before"):
    return {"prompt": prompt, "reference": "yes", "before": before, "after": after, "after_stopped": True}
