"""Accuracy, F1 and Matthews' correlation coefficient from a confusion matrix. Pure NumPy.

A confusion matrix (C, C) counts rows: ``[i, j]`` are those of class i that were taken for class j. A
precision or recall of nothing (0/0) is 0, and so is a correlation with a constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.int64]


def confusion_matrix(references: Sequence[int], predictions: Sequence[int], classes: int) -> Matrix:
    """(classes, classes) int64. Raises ValueError where a number is no class or the lengths differ."""
    true, found = np.asarray(references, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if true.shape != found.shape:
        raise ValueError(f"{len(true)} references and {len(found)} predictions")
    for name, numbers in (("references", true), ("predictions", found)):
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < classes):
            raise ValueError(f"{name}: found {numbers.min()} to {numbers.max()}, expected 0 to {classes - 1}")
    return np.bincount(true * classes + found, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: Matrix) -> float:
    """The share of rows on the diagonal; NaN without rows."""
    total = int(matrix.sum())
    return int(np.trace(matrix)) / total if total else math.nan


def precision_recall_f1(matrix: Matrix) -> tuple[npt.NDArray[np.float64], ...]:
    """(precision, recall, F1) of each class, (C,) each; F1 = 2 tp / (2 tp + fp + fn)."""
    hits = np.diag(matrix).astype(np.float64)
    predicted, actual = matrix.sum(axis=0), matrix.sum(axis=1)
    return _ratio(hits, predicted), _ratio(hits, actual), _ratio(2 * hits, predicted + actual)


def f1(matrix: Matrix, average: Literal["macro", "micro", "binary"], *, positive: int = 1) -> float:
    """``macro``: the mean over the classes that occur, in truth or in predictions; ``micro``: from the counts
    of all classes together, which for rows of one class each is the accuracy; ``binary``: of ``positive``.
    """
    per_class = precision_recall_f1(matrix)[2]
    if average == "binary":
        return float(per_class[positive])
    if average == "micro":
        return accuracy(matrix)
    occurs = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(per_class[occurs].mean()) if occurs.any() else math.nan


def matthews(matrix: Matrix) -> float:
    """Matthews' coefficient for any number of classes, the R_K of Gorodkin (2004), equation 8.

    With c rows right of s, t_k rows of class k and p_k taken for it:
    (c s - sum t_k p_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)).
    """
    # Python's integers: squares of counts of large sets leave 64 bits.
    true, found = ([int(n) for n in matrix.sum(axis=axis)] for axis in (1, 0))
    total, right = sum(true), int(np.trace(matrix))
    covariance = right * total - sum(t * p for t, p in zip(true, found, strict=True))
    spread = (total**2 - sum(p * p for p in found)) * (total**2 - sum(t * t for t in true))
    return covariance / math.sqrt(spread) if spread else 0.0


def _ratio(hits: npt.NDArray[np.float64], of: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(hits, of, out=np.zeros_like(hits), where=of > 0)
