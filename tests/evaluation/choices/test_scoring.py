"""Multiple choice: each question scored by itself with plain transformers gives the same, whatever is
shared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.choice_subjects import BIGBENCH, CEVAL, MMLU
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.errors import UserError
from hf_align.evaluation.choices.files import Question, Subject
from hf_align.evaluation.choices.prompts import comparison, shots_of
from hf_align.evaluation.choices.scoring import (
    RULES,
    ScoredQuestion,
    answer_subject,
    choice_metrics,
    task_metrics,
)
from hf_align.evaluation.scoring import Scorer, make_scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_tiny_checkpoint(
        tmp_path_factory.mktemp("model"), initializer_range=0.3, max_position_embeddings=1024
    )


def loaded(folder: str, **options) -> Scorer:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return make_scorer(model, tiny_tokenizer(), precision="fp32", **options)


def one_by_one(folder: str, subject: Subject, count: int) -> list[list[float]]:
    """Each choice behind its prompt in a forward pass of its own; the tokens that hold a character of it
    count."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = tiny_tokenizer()
    found = []
    for number, asked in enumerate(subject.questions):
        put = comparison(subject, asked, shots_of(subject, number, count))
        sums = []
        for answer in put.answers:
            encoded = tokenizer(put.prompt + answer, return_offsets_mapping=True)
            ids = torch.tensor([encoded["input_ids"]])
            with torch.no_grad():
                logps = model(input_ids=ids).logits[0].log_softmax(-1)
            ends = [end for _, end in encoded["offset_mapping"]]
            sums.append(
                sum(float(logps[i - 1, ids[0, i]]) for i, end in enumerate(ends) if end > len(put.prompt))
            )
        found.append(sums)
    return found


@pytest.mark.parametrize("subject", [MMLU, CEVAL, BIGBENCH], ids=lambda subject: subject.format)
@pytest.mark.parametrize("count", [0, 2])
def test_results_are_those_of_one_by_one_scoring(folder, subject, count):
    expected = one_by_one(folder, subject, count)
    for options in ({}, {"max_tokens": 1}, {"max_tokens": 700}, {"packing": False}):
        scorer = loaded(folder, **options)
        for share in (True, False):
            answered = answer_subject(scorer, subject, num_fewshot=count, share=share)
            np.testing.assert_allclose(
                np.concatenate([each.logps for each in answered]), np.concatenate(expected), atol=1e-4
            )
            for each, sums in zip(answered, expected, strict=True):
                assert each.chosen("accuracy") == int(np.argmax(sums))
                assert each.shots == count


def test_solved_examples_are_computed_once_where_that_saves_tokens(folder, monkeypatch):
    computed: list[int] = []
    scoring = Scorer._scores
    monkeypatch.setattr(
        Scorer, "_scores", lambda self, batch: computed.append(batch.tokens) or scoring(self, batch)
    )
    scorer = loaded(folder, max_tokens=100_000)
    answer_subject(scorer, MMLU, num_fewshot=3, share=False)
    apart = sum(computed)
    computed.clear()
    answer_subject(scorer, MMLU, num_fewshot=3)
    assert sum(computed) < 0.8 * apart
    computed.clear()
    answer_subject(scorer, MMLU, num_fewshot=0, share=False)
    without = sum(computed)
    computed.clear()
    answer_subject(scorer, MMLU, num_fewshot=0)
    assert sum(computed) == without
    # The four choices of a question share its prompt.
    computed.clear()
    answer_subject(replace(scorer, shared=False), MMLU, num_fewshot=0)
    assert without < 0.35 * sum(computed)


def test_examples_that_do_not_fit_are_left_out_one_by_one(folder):
    scorer = loaded(folder)
    scorer.model.config.max_position_embeddings = 200
    shots = [each.shots for each in answer_subject(scorer, MMLU, num_fewshot=3)]
    assert all(0 < count < 3 for count in shots)
    scorer.model.config.max_position_embeddings = 20
    with pytest.raises(UserError, match=r"q:0: the question has \d+ tokens .* made for 20"):
        answer_subject(scorer, MMLU)


def answered(logps, tokens, characters, scores=(0.0, 1.0)) -> ScoredQuestion:
    return ScoredQuestion(Question("q", "?", ("x",) * len(scores), scores), logps, tokens, characters, 0)


def test_the_three_rules_by_hand():
    # Sums: the first. Per token: -2/2 beats -1.5/1. Per character: -1.5/9 beats -2/8.
    each = answered((-1.5, -2.0), (1, 2), (9, 8))
    assert [each.chosen(rule) for rule in RULES] == [0, 1, 0]
    assert [each.score(rule) for rule in RULES] == [0.0, 1.0, 0.0]
    tied = answered((-1.0, -1.0), (1, 1), (1, 1))
    assert tied.chosen("accuracy") == 0


def test_metrics_by_hand():
    right, wrong = answered((-2.0, -1.0), (1, 1), (1, 1)), answered((-1.0, -2.0), (1, 1), (1, 1))
    found = choice_metrics([right, right, right, wrong])
    assert (found["questions"], found["accuracy"], found["chance"]) == (4, 0.75, 0.5)
    # Wilson's interval of 3 in 4, as Brown, Cai and DasGupta (2001) compute it.
    assert found["accuracy_interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    partly = choice_metrics([answered((-1.0, -2.0), (1, 1), (1, 1), scores=(0.25, 1.0)), right])
    assert partly["accuracy"] == pytest.approx(0.625)
    assert partly["accuracy_interval"] == pytest.approx([0.25, 1.0])
    assert partly["chance"] == pytest.approx((0.625 + 0.5) / 2)
    both = task_metrics({"a": [right, right, right], "b": [wrong]})
    assert (both["accuracy"], both["macro_accuracy"]) == (0.75, 0.5)
    assert math.isclose(both["subjects"]["a"]["accuracy"], 1.0)
