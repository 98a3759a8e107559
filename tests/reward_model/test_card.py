"""The card of a reward model says how it is loaded."""

from __future__ import annotations

from pathlib import Path

from helpers.reward_records import record, written


def test_the_card_says_how_the_model_is_loaded(tmp_path: Path) -> None:
    _, card = written(tmp_path / "merged", record())
    assert "pipeline_tag: text-classification" in card and "library_name: transformers" in card
    assert "AutoModelForSequenceClassification.from_pretrained('runs/r')" in card
    recipe = record()["recipe"] | {"load_in_4bit": True}
    content = record(recipe=recipe)
    del content["merge"]
    _, card = written(tmp_path / "adapter", content)
    assert "library_name: peft" in card and "load_reward_model('runs/r')" in card
    assert "on a base in 4 or 8 bits" in card
    _, card = written(tmp_path / "full", record(recipe=record()["recipe"] | {"adapter": "none"}))
    assert "library_name: transformers" in card
