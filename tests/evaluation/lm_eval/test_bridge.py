"""lm-eval on our engine: what its own Hugging Face class gives on the same model, and what we give ourselves.

Skipped where lm-eval is not installed (``pip install 'hf_align[lm-eval]'``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.lm_eval_tasks import (
    CONTEXT,
    PAIRS,
    asked,
    engine,
    loaded,
    saved,
    theirs,
    with_bos,
    write_choice_task,
)
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import redraw
from transformers import AutoConfig, AutoModelForCausalLM

from hf_align.evaluation.choices.files import Question, Subject
from hf_align.evaluation.choices.prompts import comparison, shots_of
from hf_align.evaluation.choices.scoring import answer_subject, choice_metrics
from hf_align.evaluation.recipe import LmEvalConfig

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'hf_align[lm-eval]'")

from lm_eval.evaluator import simple_evaluate

from hf_align.evaluation.lm_eval.bridge import open_tasks, run_tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("models"))


def other_family(kind: str) -> Any:
    """Models whose positions are learned: one token too many is an error in them. The second is padded."""
    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
        "gpt_neo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
            "max_position_embeddings": CONTEXT,
        },
    }
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ids, **sizes[kind])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.3)
    return model


def question(
    number: int, choices: tuple[str, ...] = ("Oslo", "Rome now", "Lima", "the city of Cairo")
) -> Question:
    scores = tuple(float(i == number % len(choices)) for i in range(len(choices)))
    return Question(f"q:{number}", f"Where do {number} lamps go?", choices, scores)


SUBJECTS = {
    "mmlu": Subject("cities", "mmlu", tuple(map(question, range(5))), (question(9),)),
    "ceval": Subject("城市", "ceval", tuple(map(question, range(4))), (question(9),)),
}


@pytest.mark.parametrize("form", SUBJECTS)
def test_a_local_task_scores_as_our_own_multiple_choice_and_as_lm_eval_s_own_class(tmp_path, form):
    path = save_tiny_checkpoint(tmp_path / "m", initializer_range=0.3, max_position_embeddings=1024)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    subject = SUBJECTS[form]
    put = [comparison(subject, each, shots_of(subject, i, 1)) for i, each in enumerate(subject.questions)]
    questions = [(str(p.prompt), p.answers, q.answer) for p, q in zip(put, subject.questions, strict=True)]
    write_choice_task(tmp_path, "local", questions)
    config = LmEvalConfig(["local"], str(tmp_path))
    tasks = open_tasks(config)
    own_class = simple_evaluate(
        model=theirs(model), tasks=["local"], task_manager=tasks.manager, bootstrap_iters=0
    )
    lm = engine(model)
    ours = answer_subject(lm.scorer, subject, num_fewshot=1)
    expected = np.concatenate([each.logps for each in ours])
    metrics = choice_metrics(ours)
    for found in (run_tasks(lm, tasks, config), own_class):
        scores = [resp[0][0] for row in found["samples"]["local"] for resp in row["resps"]]
        np.testing.assert_allclose(scores, expected, atol=1e-4)
        assert found["results"]["local"]["acc,none"] == pytest.approx(metrics["accuracy"], abs=1e-4)
        per_character = found["results"]["local"]["acc_norm,none"]
        assert per_character == pytest.approx(metrics["accuracy_by_characters"], abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo"])
def test_log_likelihoods_are_those_of_lm_eval_s_own_class(folder, family):
    def model() -> Any:
        return loaded(folder) if family == "llama" else other_family(family)

    expected = theirs(model()).loglikelihood(PAIRS, disable_tqdm=True)
    for options in ({}, {"max_tokens": 1}, {"packing": False}, {"packing": False, "max_tokens": 150}):
        found = engine(model(), **options).loglikelihood(PAIRS)
        np.testing.assert_allclose([x for x, _ in found], [x for x, _ in expected], atol=1e-4)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_what_the_model_would_write_itself_is_told_from_other_continuations(folder):
    lm, model = engine(loaded(folder)), loaded(folder)
    context = tiny_tokenizer()("Where do lamps go?")["input_ids"]
    whole = model.generate(torch.tensor([context]), do_sample=False, min_new_tokens=6, max_new_tokens=6)
    written = whole[0, len(context) :].tolist()
    requests = [(("", ""), context, each) for each in (written, written[:2], [*written[:-1], 7], written[1:])]
    expected = [True, True, False, False]
    for each in (lm, theirs(model)):
        found = each._loglikelihood_tokens(requests, disable_tqdm=True)
        assert [greedy for _, greedy in found] == expected


TEXTS = [
    "A lamp.",
    "Please send twelve lamps to Oslo. " * 3,
    "Write the order as JSON. 你好，世界。 " * 30,
    "",
]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo"])
def test_rolling_log_likelihoods_are_those_of_lm_eval_s_own_class(folder, family):
    def model() -> Any:
        return loaded(folder) if family == "llama" else other_family(family)

    texts = asked(*((text,) for text in TEXTS))
    expected = theirs(model()).loglikelihood_rolling(texts, disable_tqdm=True)
    assert len(tiny_tokenizer()(TEXTS[2])["input_ids"]) > 3 * CONTEXT
    for options in ({}, {"max_tokens": 40}, {"packing": False}):
        found = engine(model(), **options).loglikelihood_rolling(texts)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


GENERATIONS = [
    {"until": ["\n"], "max_gen_toks": 50},
    {"until": ["a", "er"], "max_gen_toks": 70, "do_sample": False, "temperature": 0.0},
    {"max_new_tokens": 5, "num_beams": 1},
]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_answers_are_those_of_lm_eval_s_own_class(folder, family):
    def model() -> Any:
        return loaded(folder) if family == "llama" else other_family(family)

    prompts = ["Where do lamps go?", "Please send twelve", "user", "A lamp. " * 40]
    requests = asked(*((prompt, dict(options)) for options in GENERATIONS for prompt in prompts))
    expected = theirs(model()).generate_until(requests, disable_tqdm=True)
    assert len(set(expected)) > len(GENERATIONS) and max(map(len, expected)) > 20
    for options in ({}, {"max_rows": 1}):
        lm = engine(model())
        lm.max_rows = options.get("max_rows", 4)
        assert lm.generate_until(requests) == expected


def test_a_prompt_that_comes_twice_is_drawn_for_twice_and_the_batch_changes_nothing(folder):
    drawn = {"do_sample": True, "max_gen_toks": 40}
    requests = asked(("Where?", drawn), ("Please", drawn), ("Where?", drawn))
    lm = engine(loaded(folder))
    first, other, second = lm.generate_until(requests)
    assert first != second
    lm.max_rows = 1
    assert lm.generate_until(requests) == [first, other, second]
    assert lm.generate_until(requests[:2]) == [first, other]


def test_a_tokenizer_that_puts_a_token_first(folder):
    expected = theirs(loaded(folder), with_bos())
    lm = engine(loaded(folder), with_bos())
    for one, other in (
        (lm.loglikelihood(PAIRS), expected.loglikelihood(PAIRS, disable_tqdm=True)),
        (
            [(x, True) for x in lm.loglikelihood_rolling(asked(("A lamp.",)))],
            [(x, True) for x in expected.loglikelihood_rolling(asked(("A lamp.",)), disable_tqdm=True)],
        ),
    ):
        np.testing.assert_allclose([x for x, _ in one], [x for x, _ in other], atol=1e-4)
