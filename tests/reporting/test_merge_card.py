"""The card of a merged model states what merge.json says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hf_align.reporting.merge_card import merge_card, write_merge_card

FOUND = {"largest": 0.04, "typical": 0.01, "same_choice": 0.995, "positions": 700}
RECORD: dict[str, Any] = {
    "base_model": "org/base",
    "adapter": "runs/a",
    "adapter_kind": "lora",
    "save_dtype": "bfloat16",
    "base_dequantized": False,
    "base_quantization": None,
    "difference": FOUND,
    "difference_before_rounding": {**FOUND, "largest": 2e-5},
    "effect_of_adapter": {**FOUND, "largest": 6.7},
    "tolerance": 0.25,
    "prompts": 12,
}


def test_the_metrics_stand_there() -> None:
    text = merge_card(RECORD)
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "org/base"
    assert "# base with a merged in" in text and "at 700 positions of 12 prompts" in text
    for cell in ("0.04", "2e-05", "6.7", "99.5 %"):
        assert f"| {cell} |" in text
    assert "dequantised" not in text


def test_names_are_text_in_the_title() -> None:
    text = merge_card({**RECORD, "adapter": "runs/a_b_<img>"})
    assert "# base with a\\_b\\_\\<img\\> merged in" in text


def test_a_base_that_was_dequantised_is_said(tmp_path: Path) -> None:
    path = write_merge_card(tmp_path, {**RECORD, "base_dequantized": True, "base_quantization": "nf4"})
    assert path.name == "README.md" and "**The base was dequantised.**" in path.read_text()
    assert "a base held in nf4" in " ".join(path.read_text().split())
