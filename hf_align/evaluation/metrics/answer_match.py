"""How near an answer is to its references: SQuAD's exact match and F1, ROUGE-L and BLEU by their packages."""

from __future__ import annotations

import importlib
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hf_align.errors import UserError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation, English articles and surplus white space (SQuAD, arXiv 1606.05250)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def comparable(text: str) -> str:
    """The normalised text. One of which nothing is left then, such as the letter A, keeps its articles, and
    one of punctuation alone is itself, so that an empty answer equals an empty reference only."""
    lower = text.lower()
    plain = " ".join(lower.translate(_PUNCTUATION).split())
    return normalised(text) or plain or " ".join(lower.split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer equals one of the references, both :func:`comparable`, else 0."""
    return float(comparable(answer) in {comparable(reference) for reference in references})


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the words of the answer and of the nearest reference, both :func:`comparable`.

    Where either has no words, 1 if neither has any, else 0. White space separates words, so that a Chinese
    sentence is one word.
    """
    return max(
        (_f1(comparable(answer).split(), comparable(each).split()) for each in references), default=0.0
    )


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = sum((Counter(answer) & Counter(reference)).values())
    return 2 * shared / (len(answer) + len(reference))


def rouge_l(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The F-measure of the longest common subsequence with the nearest reference, for each answer.

    Raises UserError where ``rouge_score`` is not installed.
    """
    scorer = optional_package("rouge_score.rouge_scorer", "rouge_score").RougeScorer(["rougeL"])
    return [
        max((float(scorer.score(each, answer)["rougeL"].fmeasure) for each in known), default=0.0)
        for answer, known in zip(answers, references, strict=True)
    ]


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU from 0 to 1 with every answer's references; they may differ in number.

    Raises UserError where ``sacrebleu`` is not installed.
    """
    sacrebleu = optional_package("sacrebleu", "sacrebleu")
    most = max((len(known) for known in references), default=0)
    # sacrebleu wants one stream a reference; None stands where an answer has no more of them.
    streams = [[known[i] if i < len(known) else None for known in references] for i in range(most)]
    return float(sacrebleu.corpus_bleu(list(answers), streams).score) / 100


def optional_package(module: str, package: str) -> Any:
    """The imported module. Raises UserError that says how to install ``package`` where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"metrics: the package {package} is missing ({error}); install it with: pip install "
            "'hf_align[metrics]'"
        ) from error
