"""Answers found in the chat templates of real models, against the generation tags that TRL adds to them.

TRL ships the templates of many models and, for training, variants of them with tags around what the model
writes. The tags were set by hand with other conventions for what surrounds an answer, so the comparison is of
the answers themselves: what is found here lies inside the tags, and differs from them only by text that no
answer holds.
"""

from __future__ import annotations

from importlib import resources

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer, conversation
from transformers.utils.chat_template_utils import render_jinja_template

from hf_align.data.chat.spans import render_with_answers
from hf_align.data.chat.templates import chat_format, with_one_day
from hf_align.data.reading.raw import MalformedRow

FOLDER = resources.files("trl").joinpath("chat_templates")
if not FOLDER.is_dir():
    pytest.skip("this release of TRL ships no chat templates", allow_module_level=True)
TEMPLATES = {
    path.name.removesuffix("_training.jinja"): path.read_text("utf-8")
    for path in FOLDER.iterdir()
    if path.name.endswith("_training.jinja")
}
# Their templates accept lists of parts only, which hold images; a row of this package is text.
IMAGES_ONLY = {"idefics3", "llava_next", "smolvlm"}


def test_there_are_templates_to_compare_with() -> None:
    assert {"llama3", "qwen3", "gemma", "phi3", "cohere"} <= set(TEMPLATES)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that touch as one: some templates tag an answer and its end one by one."""
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and merged[-1][1] == start:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - IMAGES_ONLY))
def test_answers_lie_inside_the_generation_tags(name: str) -> None:
    template = TEMPLATES[name]
    tokenizer = byte_level_tokenizer(template)
    answers = ["It is fourty-two.", "Paris 巴黎 😀"]
    messages = conversation("What is it?", answers[0], "Paris 巴黎 😀", answers[1])
    text, spans = render_with_answers(chat_format(tokenizer), messages)
    dictionaries = [{"role": message.role, "content": message.content} for message in messages]
    tagged_text, tagged = render_jinja_template(
        [dictionaries],
        chat_template=with_one_day(tokenizer).get("chat_template", template),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    assert text == tagged_text[0]
    for answer, (start, end), (first, last) in zip(answers, spans, _merged(tagged[0]), strict=True):
        assert text[start:end].endswith(answer)
        assert first <= start < end <= last
        # What the tags hold beyond the answer is the turn's header, an empty thinking block, or its end.
        assert answer not in text[first:start] + text[end:last]


@pytest.mark.parametrize("name", sorted(IMAGES_ONLY & set(TEMPLATES)))
def test_templates_for_lists_of_parts_are_refused_not_guessed(name: str) -> None:
    with pytest.raises(MalformedRow):
        render_with_answers(chat_format(byte_level_tokenizer(TEMPLATES[name])), conversation("Hi", "Hello"))
