"""References of preference runs: how their batches look, and one with another tokenizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer
from helpers.tiny_models import tiny_model

from hf_align.config import ModelConfig
from hf_align.config.dpo import DpoConfig
from hf_align.errors import UserError
from hf_align.training import reference_models
from hf_align.training.reference_models import _check_tokenizer, ready_for_answers


def run(**options: Any) -> Any:
    given = {"model_name_or_path": "m", "datasets": "a", **options}
    return SimpleNamespace(config=DpoConfig.from_flat(given))


@pytest.mark.parametrize(
    ("family", "options", "layout"),
    [
        ("llama", {}, "shared"),
        ("llama", {"share_prefix": False}, "packed"),
        ("llama", {"packing": False}, "padded"),
        ("gpt_neo", {}, "padded"),
    ],
)
def test_batches_look_as_the_model_can_and_the_recipe_wants(
    family: str, options: dict[str, Any], layout: str
) -> None:
    assert ready_for_answers(run(**options), tiny_model(family)) == layout


def test_a_reference_reads_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tiny_tokenizer(), tiny_tokenizer()
    monkeypatch.setattr(reference_models, "load_tokenizer", lambda config: theirs)
    _check_tokenizer(ModelConfig("other"), ours)
    ours.add_tokens(["<new>"])
    with pytest.raises(UserError, match=r"'other' has another tokenizer .* 1 of .* '<new>'"):
        _check_tokenizer(ModelConfig("other"), ours)
