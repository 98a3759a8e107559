"""Exact match, token F1, ROUGE-L and BLEU as metrics of the ``evaluate`` library that need no download.

Exact match and F1 are those of SQuAD (arXiv 1606.05250): case, punctuation, articles and white space do not
count. ROUGE-L and BLEU come from ``rouge_score`` and ``sacrebleu``, which are installed with the extra
``metrics``. Of several references of an answer the best counts; BLEU uses all. Importing this module takes
seconds, since ``evaluate`` does; the functions of a single answer are in ``answer_match``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from hf_align.evaluation.metrics.answer_match import bleu, exact_match, rouge_l, token_f1

References = Sequence[Sequence[str]]


class _TextMetric(evaluate.Metric):
    """What the metrics share: a text, and the texts it is held against."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(self.__doc__ or "").strip(),
            citation="",
            inputs_description="predictions: texts; references: for each of them a list of texts.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )


class ExactMatch(_TextMetric):
    """``{"exact_match"}``: the share of answers that equal a reference after SQuAD's normalisation."""

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, float]:
        return {
            "exact_match": _mean([exact_match(*pair) for pair in zip(predictions, references, strict=True)])
        }


class TokenF1(_TextMetric):
    """``{"f1"}``: the mean F1 of the words of answer and reference after SQuAD's normalisation."""

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, float]:
        return {"f1": _mean([token_f1(*pair) for pair in zip(predictions, references, strict=True)])}


class RougeL(_TextMetric):
    """``{"rouge_l"}``: the mean F-measure of the longest common subsequence, by ``rouge_score``."""

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, float]:
        return {"rouge_l": _mean(rouge_l(predictions, references))}


class Bleu(_TextMetric):
    """``{"bleu"}``: corpus BLEU from 0 to 1, by ``sacrebleu`` with its default tokenizer."""

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, float]:
        return {"bleu": bleu(predictions, references)}


METRICS: dict[str, type[evaluate.Metric]] = {
    "exact_match": ExactMatch,
    "f1": TokenF1,
    "rouge_l": RougeL,
    "bleu": Bleu,
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def compute(name: str, predictions: Sequence[str], references: References) -> float:
    """One metric by its name in ``METRICS``."""
    found: dict[str, Any] = METRICS[name]().compute(predictions=predictions, references=references)
    return float(found[name])
