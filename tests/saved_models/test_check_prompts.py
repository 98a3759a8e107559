"""Prompts for comparing two models: the run's own first, then sentences in its chat template."""

from __future__ import annotations

from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.saved_models.check_prompts import LONGEST, ROWS, SENTENCES, check_prompts


def test_rows_of_the_run_and_sentences_in_the_template() -> None:
    tokenizer = tiny_tokenizer()
    entries = [{"prompt": "<|im_start|>user\nHi<|im_end|>\n", "reference": "Yo"}, {"prompt": 3}, "none"]
    first, *others = check_prompts(tokenizer, entries)
    assert tokenizer.decode(first) == "<|im_start|>user\nHi<|im_end|>\nYo"
    assert len(others) == len(SENTENCES)
    for ids, sentence in zip(others, SENTENCES, strict=True):
        assert tokenizer.decode(ids) == f"<|im_start|>user\n{sentence}<|im_end|>\n<|im_start|>assistant\n"


def test_so_many_rows_and_tokens_at_most() -> None:
    tokenizer = tiny_tokenizer()
    long = [{"prompt": f"word {i} " * 200 + "end"} for i in range(20)]
    found = check_prompts(tokenizer, long)
    assert len(found) == ROWS + len(SENTENCES) and max(map(len, found)) == LONGEST
    assert tokenizer.decode(found[0]).endswith("end")
    assert max(map(len, check_prompts(tokenizer, long, limit=10))) == 10


def test_a_template_that_refuses_or_is_missing() -> None:
    tokenizer = tiny_tokenizer()
    for template in ("{{ raise_exception('no') }}", None):
        tokenizer.chat_template = template
        assert [tokenizer.decode(ids) for ids in check_prompts(tokenizer)] == list(SENTENCES)
