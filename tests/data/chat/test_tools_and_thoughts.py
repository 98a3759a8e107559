"""Calls and thoughts in rendered text: what is a target, and what a template must not lose."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer

from hf_align.data.chat.rendering import make_encoder, render_prompt
from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import FORMATS
from hf_align.data.reading.raw import MalformedRow, RawRow

TOOLS = "".join(
    [
        "{%- if tools %}{{ '<|im_start|>system\\nTools:' }}",
        "{% for t in tools %}{{ ' ' + (t | tojson) }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}",
        "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}",
        "{%- for c in m.tool_calls or [] %}{{ '<call>' + (c.function | tojson) + '</call>' }}{% endfor %}",
        "{{ '<|im_end|>\\n' }}{% endfor %}",
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}",
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}",
        "{% endif %}",
    ]
)
DROPS_THOUGHTS = "".join(
    [
        "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}",
        "{{ m.content.split('</think>')[-1] + '<|im_end|>\\n' }}{% endfor %}",
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
    ]
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
ROW = {
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "name": "weather", "content": "4 degrees"},
        {"role": "assistant", "content": "It is cold."},
    ],
    "tools": [TOOL],
}


def encoded(template: str, row: dict[str, Any], **options: Any) -> Any:
    tokenizer = byte_level_tokenizer(template)
    example = resolve_format("auto", {}, [RawRow("f:1", row)], where="f", formats=FORMATS)(RawRow("f:1", row))
    return tokenizer, example, make_encoder(tokenizer, **options).encode([example])[0]


def targets(tokenizer: Any, row: Any) -> str:
    return str(tokenizer.decode(row.input_ids[row.target_mask]))


def test_calls_are_targets_and_results_are_not() -> None:
    tokenizer, _, row = encoded(TOOLS, ROW)
    expected = tokenizer.apply_chat_template(ROW["messages"], tools=[TOOL], tokenize=True, return_dict=True)
    assert row.input_ids.tolist() == expected["input_ids"]
    call = '<call>{"name": "weather", "arguments": {"city": "Oslo"}}</call><|im_end|>'
    assert targets(tokenizer, row) == f"{call}It is cold.<|im_end|>"


def test_a_turn_of_no_weight_is_shown_and_not_trained() -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "bad", "weight": 0},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "good"},
    ]
    tokenizer, _, row = encoded(TOOLS, {"messages": turns})
    assert targets(tokenizer, row) == "good<|im_end|>" and "bad" in tokenizer.decode(row.input_ids)


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        (TOOLS.replace("tojson", "string | length | string"), ROW, "does not write the call of 'weather'"),
        (
            TOOLS.replace("{%- if tools %}", "{%- if false %}"),
            ROW | {"messages": ROW["messages"][-1:]},
            "tool",
        ),
    ],
)
def test_what_the_template_does_not_write_is_refused(
    template: str, row: dict[str, Any], message: str
) -> None:
    rows = {"messages": [{"role": "user", "content": "Hi"}, *row["messages"]], "tools": row["tools"]}
    _, _, found = encoded(template, rows)
    assert isinstance(found, MalformedRow) and message in str(found)


def test_a_call_as_text_does_not_stand_for_its_tool() -> None:
    turns = [
        {"role": "user", "content": "Is it cold in Oslo?"},
        {"role": "assistant", "content": '<call>{"name": "weather", "arguments": {"city": "Oslo"}}</call>'},
    ]
    row = {"messages": turns, "tools": ROW["tools"]}
    _, _, found = encoded(TOOLS.replace("{%- if tools %}", "{%- if false %}"), row)
    assert isinstance(found, MalformedRow) and "does not write the tool 'weather'" in str(found)
    assert not isinstance(encoded(TOOLS, row)[2], MalformedRow)


def test_a_turn_that_is_only_a_call_is_named_where_the_template_reads_none() -> None:
    content = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    turns = [{"role": "user", "content": "Hi"}, {**ROW["messages"][1], "content": None}]
    _, _, found = encoded(content, {"messages": turns})
    assert isinstance(found, MalformedRow) and "does not write the call of 'weather'" in str(found)


def test_lost_thoughts_are_refused_unless_the_recipe_says_otherwise() -> None:
    turns = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\ntwo and two\n</think>\n\nIt is 4."},
    ]
    _, _, lost = encoded(DROPS_THOUGHTS, {"messages": turns})
    assert isinstance(lost, MalformedRow) and lost.kind == "shortened answer"
    tokenizer, _, kept = encoded(DROPS_THOUGHTS, {"messages": turns}, keep_reasoning="none")
    assert targets(tokenizer, kept).strip() == "It is 4.<|im_end|>"


def test_a_model_is_asked_with_the_generation_prompt_of_the_template() -> None:
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    tokenizer, example, _ = encoded(DROPS_THOUGHTS, {"messages": turns})
    assert render_prompt(tokenizer, example) == (
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "4",
    )
    row = {"messages": turns, "chat_template_kwargs": {"enable_thinking": False}}
    tokenizer, example, _ = encoded(TOOLS, row)
    assert render_prompt(tokenizer, example)[0].endswith("<|im_start|>assistant\n<think></think>")
