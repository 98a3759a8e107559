"""Options of the base model: one quantisation at the most, and paths below the user's home."""

from __future__ import annotations

import pytest

from hf_align.config import ModelConfig
from hf_align.config.group import KeyProblem
from hf_align.errors import UserError
from hf_align.sft.recipe import parse_sft


def test_only_one_quantisation() -> None:
    with pytest.raises(KeyProblem) as caught:
        ModelConfig("m", load_in_4bit=True, load_in_8bit=True)
    assert caught.value.keys == ("load_in_4bit", "load_in_8bit")


def test_details_of_four_bits_need_four_bits() -> None:
    given = [
        "--model_name_or_path",
        "m",
        "--datasets",
        "a",
        "--adapter",
        "lora",
        "--bnb_4bit_quant_type",
        "fp4",
    ]
    with pytest.raises(UserError, match="no effect, because load_in_4bit is false by default"):
        parse_sft(given)
    assert parse_sft([*given, "--load_in_4bit", "true"]).model.bnb_4bit_quant_type == "fp4"


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    model = ModelConfig("~/m", tokenizer_name_or_path="~/t", chat_template_path="~other/c.jinja")
    assert model.model_name_or_path == "/home/x/m" and model.tokenizer_name_or_path == "/home/x/t"
    assert model.chat_template_path == "~other/c.jinja"
