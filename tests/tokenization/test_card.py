"""The card of a tokenizer: what it was made from and how it is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from hf_align.reporting.model_card import write_model_card
from hf_align.tokenization.card import tokenizer_card

RECORD = {
    "command": "tokenizer",
    "recipe": {
        "tokenizer_type": "unigram",
        "vocab_size": 500,
        "datasets": [{"path": "a.txt"}, {"path": "b`"}],
    },
    "recipe_path": "r.yaml",
}


def test_sources_and_loading(tmp_path: Path) -> None:
    text = tokenizer_card(RECORD)
    assert yaml.safe_load(text.split("---")[1])["tags"] == ["hf_align", "tokenizer"]
    assert "# Unigram tokenizer, 500 tokens" in text and "trained on `a.txt` and `` b` ``." in text
    assert "Made with `hf-align tokenizer --config r.yaml`." in text
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    assert write_model_card(tmp_path).read_text() == text


def test_a_model_that_grew_with_it_is_loaded_too() -> None:
    extended = {"recipe": {"extend": "base"}, "extension": {"count": 5, "model": "AutoModelForCausalLM"}}
    text = tokenizer_card(extended)
    (lines,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    compile(lines, "card", "exec")
    assert "AutoModelForCausalLM.from_pretrained" in lines and "have to be trained" in text
