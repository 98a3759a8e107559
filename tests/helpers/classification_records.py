"""The record of a classification run, for pages and cards."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_align.classify.metrics import classification_evaluation
from hf_align.types import LabelledText

NAMES = ["bills & taxes", "<b>food</b>", "travel"]


def evaluation(right: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    predictions = np.where(rng.random(60) < right, labels, (labels + 1) % 3)
    details = {
        "numbers": np.arange(60),
        "labels": labels,
        "predictions": predictions,
        "probabilities": rng.random(60),
    }
    texts = [LabelledText(f"mail:{i}", f"text <i>{i}</i>", None, NAMES[n]) for i, n in enumerate(labels)]
    return classification_evaluation(details, NAMES, texts)


def classification_record() -> dict[str, Any]:
    return {
        "command": "classify",
        "status": "completed",
        "recipe": {"model_name_or_path": "models/enc", "output_dir": "runs/x", "freeze_base": True},
        "labels": NAMES,
        "train_labels": [20, 30, 1200],
        "model": {"init_from": "embeddings", "attention": "padded"},
        "classification": {"before": evaluation(0.3), "after": evaluation(0.9)},
        "final_metrics": {"eval_loss": 0.4, "eval_loss_before": 1.1},
    }
