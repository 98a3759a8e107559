"""What classification adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import BeforeAndAfter, Model, Record, entry


class Classifier(Model):
    """The entry ``model`` of a classifier's run."""

    pad_token: str = entry("the token that fills batches")
    init_from: str = entry("as in the recipe: what the weights began as")


class ClassifyRecord(Record):
    """The entries of run.json of ``hf-align classify``."""

    model: Classifier = entry("the model that is trained")
    labels: list[Any] = entry("the classes, by number")
    train_labels: list[Any] = entry("training rows of each class")
    classification: BeforeAndAfter = entry("accuracy, F1, the confusion matrix, each class, mistakes")
