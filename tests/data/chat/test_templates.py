"""Finding a chat template and learning its generation prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer, conversation

from hf_align.data.chat.templates import SHIPPED_TEMPLATES, chat_format, resolve_chat_template
from hf_align.errors import UserError
from hf_align.types import Message


def test_shipped_templates_render_as_documented() -> None:
    messages = conversation("Hi", "Hello", "And?", system="Be brief.")
    chatml = chat_format(byte_level_tokenizer(resolve_chat_template("chatml")))
    assert chatml.render(messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    )
    alpaca = chat_format(byte_level_tokenizer(resolve_chat_template("alpaca")))
    assert alpaca.render(messages, add_generation_prompt=True) == (
        "<s>Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n"
        "### Instruction:\nAnd?\n\n### Response:\n"
    )


def test_the_template_with_tools_writes_those_of_hermes() -> None:
    call = {"name": "add", "arguments": {"a": 1, "b": "é"}}
    calls = json.dumps({"content": None, "tool_calls": [{"type": "function", "function": call}] * 2})
    turns = [
        Message("system", "Be brief."),
        Message("user", "1 + é?"),
        Message("assistant", "", calls),
        Message("tool", "2"),
        Message("tool", "3"),
    ]
    hermes = chat_format(byte_level_tokenizer(resolve_chat_template("hermes")))
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    text = hermes.for_row(json.dumps({"tools": [tool]})).render(turns, add_generation_prompt=True)
    head, rest = text.split("<|im_end|>\n", 1)
    assert head.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n\n")
    assert f"<tools>\n{json.dumps(tool)}\n</tools>" in head
    written = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n</tool_call>'
    assert rest == (
        f"<|im_start|>user\n1 + é?<|im_end|>\n<|im_start|>assistant\n{written}\n{written}<|im_end|>\n"
        "<|im_start|>tool\n<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert hermes.render(turns[:2]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + é?<|im_end|>\n"
    )


def test_every_shipped_template_has_a_file_and_every_file_a_name() -> None:
    import hf_align.data

    folder = Path(hf_align.data.__file__).parent / "templates"
    assert sorted(path.stem for path in folder.glob("*.jinja")) == sorted(SHIPPED_TEMPLATES)


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("chatml", "<|im_start|>assistant\n"),
        ("llama3", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("gemma", "<start_of_turn>model\n"),
        ("alpaca", "### Response:\n"),
        ("mistral", ""),
    ],
)
def test_the_generation_prompt(family: str, prompt: str) -> None:
    assert chat_format(byte_level_tokenizer(FAMILIES[family][0])).generation_prompt == prompt


def test_a_template_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_bytes(b"\xef\xbb\xbf{{ messages }}")
    assert resolve_chat_template(str(path)) == "{{ messages }}"


def test_wrong_template_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"neither a file nor the name.*alpaca, chatml.*Did you mean 'chatml'"
    ):
        resolve_chat_template("chat_ml")
    empty, binary = tmp_path / "empty.jinja", tmp_path / "binary.jinja"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="empty"):
        resolve_chat_template(str(empty))
    with pytest.raises(UserError, match="UTF-8"):
        resolve_chat_template(str(binary))
    with pytest.raises(UserError, match="neither a file"):
        resolve_chat_template(str(tmp_path))


def test_a_template_with_the_date_of_today_writes_the_same_every_day() -> None:
    template = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    chat = chat_format(byte_level_tokenizer(template))
    assert chat.render([Message("user", "Hi")]) == "26 Jul 2024Hi"
