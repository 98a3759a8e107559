"""Multiple choice by log-likelihood: which continuation of a prompt a model holds for the likeliest.

Three rules choose: the sum of the log-probabilities of a choice's tokens, that sum per token, and per
character. The K choices of a question are branches of one prompt, which is computed once; where questions
begin with the same solved examples, these are computed once for as many questions as save time by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError
from hf_align.evaluation.choices.files import Question, Subject
from hf_align.evaluation.choices.prompts import comparison, shots_of
from hf_align.evaluation.scoring import Scorer
from hf_align.sampling.options import context_length
from hf_align.statistics.bootstrap import bootstrap_interval
from hf_align.statistics.calibration import wilson_interval
from hf_align.types import ComparisonRow

RULES = ("accuracy", "accuracy_by_tokens", "accuracy_by_characters")


@dataclass(frozen=True)
class ScoredQuestion:
    """One question with what the model made of its K choices.

    ``logps`` (K,): summed log-probability of each in nats. ``tokens`` and ``characters`` (K,): their lengths.
    ``shots``: how many solved examples fitted in.
    """

    question: Question
    logps: tuple[float, ...]
    tokens: tuple[int, ...]
    characters: tuple[int, ...]
    shots: int

    def chosen(self, rule: str) -> int:
        """The number of the choice that ``rule`` takes, the first of those that tie."""
        lengths = {"accuracy_by_tokens": self.tokens, "accuracy_by_characters": self.characters}.get(rule)
        values = self.logps
        if lengths is not None:
            values = tuple(x / max(1, n) for x, n in zip(values, lengths, strict=True))
        return int(np.argmax(values))

    def score(self, rule: str) -> float:
        """What the choice is worth: 1 or 0, or what a BIG-bench task gives for it."""
        return self.question.scores[self.chosen(rule)]


def answer_subject(
    scorer: Scorer,
    subject: Subject,
    *,
    num_fewshot: int = 0,
    share: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[ScoredQuestion]:
    """All questions of a subject, answered in their order.

    ``share``: compute solved examples once for several questions; changes speed, never results beyond
    rounding. ``progress`` is called with numbers of choices. Raises UserError for a question that is longer
    than the model's context.
    """
    encoder = ComparisonEncoder(
        make_encoder(scorer.tokenizer, train_on="last", add_eos=False, require_end_of_turn=False)
    )
    limit = context_length(scorer.model, scorer.tokenizer)
    asked = [_fitting(encoder, subject, i, num_fewshot, limit) for i in range(len(subject.questions))]
    trees = [each.tree for each in asked]
    scored = scorer.trees(trees, progress, merge=share)
    return [
        ScoredQuestion(
            question,
            tuple(math.fsum(part.logps.tolist()) for part in scored[i]),
            tuple(branch.target_tokens for branch in trees[i].branches),
            tuple(map(len, asked[i].answers)),
            asked[i].shots,
        )
        for i, question in enumerate(subject.questions)
    ]


@dataclass(frozen=True)
class _ChoiceRequest:
    tree: ComparisonRow
    answers: tuple[str, ...]
    shots: int


def _fitting(
    encoder: ComparisonEncoder, subject: Subject, number: int, count: int, limit: int | None
) -> _ChoiceRequest:
    """The question with as many solved examples, up to ``count``, as fit into ``limit`` tokens."""
    question = subject.questions[number]
    shots = shots_of(subject, number, count)
    while True:
        put = comparison(subject, question, shots)
        (tree,) = encoder.encode([put])
        if isinstance(tree, MalformedRow):
            raise UserError(f"{question.source}: this question cannot be scored: {tree}")
        longest = len(tree.prefix) + max(map(len, tree.branches))
        if limit is None or longest <= limit:
            return _ChoiceRequest(tree, put.answers, len(shots))
        if not shots:
            raise UserError(
                f"{question.source}: the question has {longest} tokens with its longest choice, and the "
                "model was "
                f"made for {limit}"
            )
        shots = shots[:-1]


def choice_metrics(answered: Sequence[ScoredQuestion], *, seed: int = 42) -> dict[str, Any]:
    """``questions``; for each rule of ``RULES`` the mean score; ``accuracy_interval``, 95 %; ``chance``.

    The interval is Wilson's where each score is 0 or 1, and else from drawing the questions again.
    ``chance``: the mean score of a random choice. ``shots``: the mean number of solved examples.
    """
    scores = {rule: [each.score(rule) for each in answered] for rule in RULES}
    count = len(answered)
    found: dict[str, Any] = {"questions": count}
    found |= {rule: math.fsum(values) / count for rule, values in scores.items()}
    for rule, values in scores.items():
        if set(values) <= {0.0, 1.0}:
            found[f"{rule}_interval"] = list(wilson_interval(found[rule], count))
        else:
            found[f"{rule}_interval"] = bootstrap_interval(values, lambda sums: sums[:, 0] / count, seed=seed)
    found["chance"] = (
        math.fsum(math.fsum(q.question.scores) / len(q.question.scores) for q in answered) / count
    )
    found["shots"] = sum(each.shots for each in answered) / count
    return found


def task_metrics(subjects: dict[str, Sequence[ScoredQuestion]], *, seed: int = 42) -> dict[str, Any]:
    """The metrics of all questions together, ``subjects`` with those of each, and ``macro_accuracy``, the
    mean of theirs."""
    together = [each for answered in subjects.values() for each in answered]
    by_subject = {name: choice_metrics(answered, seed=seed) for name, answered in subjects.items()}
    macro = math.fsum(each["accuracy"] for each in by_subject.values()) / len(by_subject)
    return {**choice_metrics(together, seed=seed), "macro_accuracy": macro, "subjects": by_subject}
