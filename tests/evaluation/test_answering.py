"""Answers to generation tasks: those of transformers' own generate, whatever is answered beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_evaluation import write_questions
from transformers import AutoModelForCausalLM

from hf_align.errors import UserError
from hf_align.evaluation.answer_rows import as_rows, shown_answers
from hf_align.evaluation.answering import (
    Asked,
    Reply,
    answer_task,
    generation_metrics,
    read_task,
)
from hf_align.evaluation.recipe_entries import GenerationTask
from hf_align.evaluation.results import Results, main_metric, with_differences
from hf_align.sampling.answers import Answer
from hf_align.sampling.options import Sampling

GREEDY = Sampling(max_new_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_checkpoint(folder / "model", initializer_range=0.3)
    write_questions(folder / "questions.jsonl", 5)
    write_questions(folder / "dev.jsonl", 3)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()


def asked(folder: Path, **options) -> list[Asked]:
    return read_task(
        GenerationTask(str(folder / "questions.jsonl"), **options), tiny_tokenizer(), system_prompt=None
    )


def answers(
    model, folder: Path, task: GenerationTask, sampling=GREEDY, rows: int = 32, **options
) -> list[Reply]:
    tokenizer = tiny_tokenizer()
    read = read_task(task, tokenizer, system_prompt=None)
    return answer_task(
        model, tokenizer, task, read[: options.get("first", 99)], sampling, seed=3, max_rows=rows
    )


def test_greedy_answers_are_those_of_generate(model, folder):
    task = GenerationTask(str(folder / "questions.jsonl"))
    tokenizer = tiny_tokenizer()
    for reply in answers(model, folder, task):
        with torch.no_grad():
            whole = model.generate(
                torch.tensor([reply.asked.ids]),
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        expected = tokenizer.decode(whole[0, len(reply.asked.ids) :], skip_special_tokens=True)
        assert reply.written == (expected,) and reply.answer == expected.strip()


@pytest.mark.parametrize("sampling", [GREEDY, replace(GREEDY, temperature=0.8)])
def test_other_prompts_and_the_batch_change_no_answer(model, folder, sampling):
    task = GenerationTask(str(folder / "questions.jsonl"), num_samples=3)
    expected = [reply.written for reply in answers(model, folder, task, sampling)]
    assert [reply.written for reply in answers(model, folder, task, sampling, rows=2)] == expected
    assert [reply.written for reply in answers(model, folder, task, sampling, first=2)] == expected[:2]


def test_what_the_model_is_asked(folder):
    tokenizer = tiny_tokenizer()
    (first, *_) = asked(
        folder, num_fewshot=2, dev_path=str(folder / "dev.jsonl"), prompting="chain_of_thought"
    )
    text = tokenizer.decode(first.ids)
    assert text.count("<|im_start|>assistant") == 3 and "Oslo<|im_end|>" in text and "Rome<|im_end|>" in text
    assert text.rstrip().endswith("The answer is<|im_end|>\n<|im_start|>assistant")
    assert first.references == ("Oslo",)


def test_rows_may_have_several_references_and_checks_of_their_own(tmp_path):
    checks = {"max_words": 3, "must_contain": "Oslo"}
    write_questions(tmp_path / "questions.jsonl", 1, references=["Oslo", "to Oslo"], checks=checks)
    (only,) = asked(tmp_path, checks={"stops": True, "max_words": 9})
    assert only.references == ("Oslo", "to Oslo")
    assert only.checks == {"stops": True, "max_words": 3, "must_contain": ["Oslo"]}


def reply(only: Asked, text: str, *others: str, stopped: bool = True, chosen: int = 0) -> Reply:
    texts = (text, *others)
    return Reply(only, tuple(Answer(each, stopped, 4) for each in texts), texts, chosen)


def test_metrics_by_hand(folder):
    (first, second, *_) = asked(folder, checks={"max_words": 2, "stops": True})
    task = GenerationTask("t", checks={"max_words": 2, "stops": True})
    replies = [reply(first, "the Oslo"), reply(second, "to Rome it goes", stopped=False)]
    found, items = generation_metrics(task, replies, seed=1)
    assert (found["rows"], found["exact_match"], found["stopped"], found["tokens"]) == (2, 0.5, 0.5, 4.0)
    assert found["f1"] == pytest.approx((1 + 2 / 5) / 2)
    assert found["f1_interval"] == pytest.approx([2 / 5, 1.0])
    assert found["checks"] == {"max_words": 0.5, "stops": 0.5} and found["checks_passed"] == 0.5
    np.testing.assert_array_equal(items, [[1, 1], [0, 1]])
    assert "agreement" not in found and "bleu" not in found


@pytest.mark.parametrize("names", [["f1", "exact_match"], ["f1"], []])
def test_differences_are_those_of_the_metric_that_heads_the_task(folder, names):
    (first, second, *_) = asked(folder)
    task = GenerationTask("t", metrics=names)
    results: Results = {"generation": {"t": {}}}
    items = {}
    for model, texts in (("a", ("Oslo", "x")), ("b", ("Oslo", "Rome it is"))):
        replies = [reply(first, texts[0], stopped=model == "a"), reply(second, texts[1])]
        found, items["generation", "t", model] = generation_metrics(task, replies, seed=1)
        results["generation"]["t"][model] = found
    with_differences(results, items, ["a", "b"], seed=1)
    by_model = results["generation"]["t"]
    main = main_metric("generation", by_model)
    assert main == {2: "exact_match", 1: "f1", 0: "stopped"}[len(names)]
    change = by_model["b"][main] - by_model["a"][main]
    assert by_model["b"]["difference"]["value"] == pytest.approx(change)


def test_bleu_alone_heads_its_task_and_has_no_difference(folder):
    pytest.importorskip("sacrebleu")
    (first, *_) = asked(folder)
    found, items = generation_metrics(GenerationTask("t", metrics=["bleu"]), [reply(first, "Oslo")], seed=1)
    assert main_metric("generation", {"a": found}) == "bleu" and items is None


def test_samples_that_agree(folder):
    (first, *_) = asked(folder)
    found, _ = generation_metrics(
        GenerationTask("t", num_samples=4), [reply(first, "Rome", "Oslo.", "oslo", "Lima", chosen=1)], seed=1
    )
    assert (found["agreement"], found["exact_match"]) == (0.5, 1.0)


def test_what_is_kept_of_the_answers(folder):
    (first, second, *_) = asked(folder, checks={"max_words": 1})
    given = [reply(first, "Oslo"), reply(second, "to Lima")]
    rows = as_rows("a", "t", given)
    assert [(row["source"].rpartition(":")[2], row["answer"], row["checks"]) for row in rows] == [
        ("1", "Oslo", {"max_words": True}),
        ("2", "to Lima", {"max_words": False}),
    ]
    shown = shown_answers({"t": {"a": given, "b": given[::-1]}})
    assert [entry["answers"] for entry in shown] == [
        {"a": "Oslo", "b": "to Lima"},
        {"a": "to Lima", "b": "Oslo"},
    ]


def test_no_room_for_an_answer(model, folder):
    task = GenerationTask(str(folder / "questions.jsonl"))
    with pytest.raises(
        UserError, match=r"questions\.jsonl:1: the prompt has \d+ tokens, and max_new_tokens = 250"
    ):
        answers(model, folder, task, Sampling(max_new_tokens=250))


def test_wrong_patterns_are_named(folder):
    with pytest.raises(UserError, match=r"answer_pattern: '\(' is no regular expression"):
        asked(folder, answer_pattern="(")
