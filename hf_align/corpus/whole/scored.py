"""Documents are scored by a model and the best share of them stays.

A score has no unit that means the same everywhere, so what stays is said as a share of the corpus (a
percentile); the threshold that this comes to is reported. Models:

- ``linear``: logistic regression on hashed words and word pairs, trained here from documents of a good and of
  an ordinary kind, 20 % of them held out to report precision and recall.
- ``encoder``: a classifier of ``hf-align classify``; the score is the probability of ``label``.
- ``perplexity``: a causal language model, such as one of ``hf-align pretrain``; the score is minus the mean
  loss of a token in nats, end-of-line tokens as CCNet counts them left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_align.corpus.document import Document, Verdict
from hf_align.corpus.whole.base import Arrays, Decision, Read, split
from hf_align.errors import UserError

_WEIGHTS = "weights.npz"
_FEATURES = 2**18
_HELD_OUT = 0.2
_MOST_TOKENS = 512
_HISTOGRAM = 40


@dataclass(frozen=True)
class Scored:
    """``keep_share``: of the documents, the best ones. ``good``, ``ordinary``: files to train ``linear``
    from. ``model``: folder of the other two; ``label``: of ``encoder``. ``seed``: of the training."""

    kind: Literal["linear", "encoder", "perplexity"]
    keep_share: float
    good: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    model: str = ""
    label: str = ""
    seed: int = 0

    def prepare(self, folder: Path) -> dict[str, Any]:
        return self._train(folder) if self.kind == "linear" else {}

    def scan(self, documents: Sequence[Document], folder: Path) -> dict[str, np.ndarray]:
        texts = [document.text for document in documents]
        if self.kind == "linear":
            scores = linear_scores(texts, folder / _WEIGHTS)
        elif self.kind == "encoder":
            scores = _encoder_scores(texts, self.model, self.label)
        else:
            scores = _likelihoods(texts, self.model)
        return {"scores": np.asarray(scores, dtype=np.float64)}

    def decide(self, scans: Sequence[Arrays], read: Read) -> Decision:
        counts = [len(scan["scores"]) for scan in scans]
        scores = np.concatenate([scan["scores"] for scan in scans])
        kept = math.ceil(self.keep_share * len(scores))
        # Of equal scores the first documents stay, so that the share is exact.
        order = np.lexsort((np.arange(len(scores)), -scores))
        stays = np.zeros(len(scores), dtype=bool)
        stays[order[:kept]] = True
        threshold = float(scores[order[kept - 1]]) if kept else math.inf
        heights, edges = np.histogram(scores, bins=_HISTOGRAM) if len(scores) else (np.zeros(1), np.zeros(2))
        found = {"threshold": threshold, "scores": {"edges": edges.tolist(), "counts": heights.tolist()}}
        parts = zip(split(stays, counts), split(scores, counts), strict=True)
        limit = np.array([threshold])
        return Decision([{"stays": part, "scores": own, "threshold": limit} for part, own in parts], found)

    def apply(self, documents: Sequence[Document], decided: Arrays) -> Iterator[Verdict]:
        threshold = float(decided["threshold"][0])
        for stays, score in zip(decided["stays"].tolist(), decided["scores"].tolist(), strict=True):
            columns, values = {"quality_score": round(score, 6)}, {"quality_score": score}
            if stays:
                yield Verdict(columns=columns, values=values)
            else:
                yield Verdict(False, "quality_score", score, threshold, columns=columns, values=values)

    def _train(self, folder: Path) -> dict[str, Any]:
        from sklearn.linear_model import SGDClassifier

        texts = [(text, True) for text in _read(self.good)] + [(text, False) for text in _read(self.ordinary)]
        order = np.random.default_rng(self.seed).permutation(len(texts))
        held_out, trained = np.split(order, [int(_HELD_OUT * len(order))])
        labels = np.array([good for _, good in texts])
        for name, part in (("held-out", held_out), ("training", trained)):
            if len(set(labels[part].tolist())) < 2:
                raise UserError(
                    f"steps: classifier: the {len(texts)} documents of good and ordinary leave no {name} "
                    "ones of both kinds; give at least 20 of each."
                )
        features = _features([text for text, _ in texts])
        model = SGDClassifier(loss="log_loss", random_state=self.seed, class_weight="balanced")
        model.fit(features[trained], labels[trained])
        np.savez(folder / _WEIGHTS, coef=model.coef_[0], intercept=model.intercept_)
        scores = model.decision_function(features[held_out])
        return _held_out(scores, labels[held_out], int(labels.sum()), len(labels))


def _features(texts: Sequence[str]) -> Any:
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise UserError(
            "steps: classifier: the package scikit-learn is not installed; pip install 'hf_align[corpus]'."
        ) from None
    return HashingVectorizer(n_features=_FEATURES, ngram_range=(1, 2)).transform(texts)


def linear_scores(texts: Sequence[str], weights: Path) -> np.ndarray:
    """Log-odds that each text is of the good kind, (N,)."""
    with np.load(weights) as saved:
        return np.asarray(_features(texts) @ saved["coef"] + saved["intercept"][0])


def _held_out(scores: np.ndarray, labels: np.ndarray, good: int, documents: int) -> dict[str, Any]:
    """Precision and recall on held-out labels where a document counts as good with log-odds above 0."""
    said = scores > 0
    right = int((said & labels).sum())
    return {
        "documents": documents,
        "good": good,
        "held_out": len(labels),
        "precision": right / max(1, int(said.sum())),
        "recall": right / max(1, int(labels.sum())),
        "accuracy": float((said == labels).mean()),
    }


def _read(paths: Sequence[str]) -> list[str]:
    from hf_align.config.data import DatasetConfig
    from hf_align.corpus.documents import documents_of

    return [
        document.text for path in paths for document in documents_of(DatasetConfig(path)) if document.text
    ]


@functools.lru_cache(maxsize=1)
def _encoder(folder: str) -> Any:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def _encoder_scores(texts: Sequence[str], folder: str, label: str) -> list[float]:
    import torch

    model, tokenizer = _encoder(folder)
    labels = {str(name): int(number) for number, name in model.config.id2label.items()}
    if label not in labels:
        raise UserError(
            f"steps: classifier: label: {folder} has no class {label!r}; it has {', '.join(labels)}."
        )
    scores = []
    limit = min(_MOST_TOKENS, tokenizer.model_max_length)
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
            probabilities = model(**inputs).logits[0].float().softmax(-1)
            scores.append(float(probabilities[labels[label]]))
    return scores


@functools.lru_cache(maxsize=1)
def _language_model(folder: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def _likelihoods(texts: Sequence[str], folder: str) -> list[float]:
    """Mean log-probability of a token of each text in nats, of its first 512 tokens."""
    import torch

    model, tokenizer = _language_model(folder)
    limit = min(_MOST_TOKENS, getattr(model.config, "max_position_embeddings", _MOST_TOKENS))
    scores = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)["input_ids"]
            if ids.shape[1] < 2:
                scores.append(-math.inf)
                continue
            logps = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            scores.append(float(logps.gather(1, ids[0, 1:, None]).mean()))
    return scores
