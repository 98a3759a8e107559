"""Recipes of classification: what goes together and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.classify.recipe import ClassifyConfig
from hf_align.config import load_recipe
from hf_align.errors import UserError


def parse(tmp_path, **options: Any) -> ClassifyConfig:
    import json

    path = tmp_path / "recipe.yaml"
    recipe = {"model_name_or_path": "m", "datasets": "a.jsonl", **options}
    path.write_text(json.dumps(recipe))
    return load_recipe(ClassifyConfig, path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_base": True, "adapter": "lora"}, "nothing but the head is trained"),
        ({"freeze_base": True, "trainable": ["norms"]}, "nothing but the head is trained"),
        ({"init_from": "random", "adapter": "lora"}, "random weights cannot"),
        ({"init_from": "embeddings", "load_in_8bit": True, "adapter": "lora"}, "not quantised"),
        ({"init_from": "wieghts"}, "weights"),
        ({"labels": ["a"]}, "found one; expected two or more"),
        ({"labels": ["a", "b", "a"]}, "found 'a' twice"),
        ({"labels": [1, 2]}, "labels"),
        ({"streaming": True, "max_steps": 5}, "once all rows are read"),
        ({"train_on": "all"}, "it is about answers"),
        ({"system_prompt": "x"}, "it is about answers"),
        ({"chat_template_path": "chatml"}, "without a template"),
        ({"load_in_4bit": True}, "quantised weights cannot be trained"),
        ({"eval_strategy": "epoch"}, "nothing to evaluate on"),
    ],
)
def test_what_does_not_go_together(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        parse(tmp_path, **options)


def test_a_frozen_base_may_be_quantised(tmp_path):
    assert parse(tmp_path, freeze_base=True, load_in_4bit=True).classify.freeze_base


@pytest.mark.parametrize(
    ("options", "merges"),
    [
        ({}, False),
        ({"adapter": "lora"}, True),
        ({"adapter": "bitfit"}, True),
        ({"adapter": "bottleneck"}, False),
        ({"adapter": "lora", "load_in_4bit": True}, False),
    ],
)
def test_what_is_merged(options, merges, tmp_path):
    assert parse(tmp_path, **options).merges is merges
