"""How a language model is loaded, by its kind and its adapter; the lines are Python that compiles."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hf_align.reporting.loading_section import adapter_of, is_seq2seq, language_loading


def code(**recipe: Any) -> str:
    record = {"recipe": {"output_dir": "runs/a", "model_name_or_path": "./base", **recipe}}
    if recipe.get("seq2seq"):
        record["model"] = {"seq2seq": True}
    text = language_loading(record)
    (lines,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    compile(lines, "card", "exec")
    return text


@pytest.mark.parametrize(
    ("recipe", "loader"),
    [
        ({}, "AutoModelForCausalLM.from_pretrained('runs/a')"),
        ({"adapter": "lora"}, "peft.AutoPeftModelForCausalLM"),
        ({"adapter": "ladder"}, "find_model(ModelConfig('runs/a'))"),
        ({"seq2seq": True}, "AutoModelForSeq2SeqLM"),
        ({"trust_remote_code": True}, "trust_remote_code=True"),
    ],
)
def test_loading(recipe: dict[str, Any], loader: str) -> None:
    text = code(**recipe)
    assert loader in text
    assert ("its base model is read from `./base`" in text) == ("adapter" in recipe)


def test_records_of_any_kind() -> None:
    assert adapter_of({"adapter": "none"}) == adapter_of({}) == "" and adapter_of({"adapter": "ia3"}) == "ia3"
    assert not is_seq2seq({}) and is_seq2seq({"model": {"seq2seq": 1}})
