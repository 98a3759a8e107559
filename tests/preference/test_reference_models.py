"""References of preference runs: how their batches look, and one with another tokenizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer
from helpers.tiny_models import tiny_model

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.heads.target import install_target_head
from hf_align.preference import reference_models
from hf_align.preference.recipe import DpoConfig
from hf_align.preference.reference_models import _check_tokenizer
from hf_align.training.build import make_ready, may_pack


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
    config = run(**options).config
    share = config.comparison.share_prefix
    assert make_ready(tiny_model(family), install_target_head, pack=may_pack(config), share=share) == layout


def test_a_reference_reads_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tiny_tokenizer(), tiny_tokenizer()
    monkeypatch.setattr(reference_models, "load_tokenizer", lambda config: theirs)
    _check_tokenizer(ModelConfig("other"), ours)
    ours.add_tokens(["<new>"])
    with pytest.raises(UserError, match=r"'other' has another tokenizer .* 1 of .* '<new>'"):
        _check_tokenizer(ModelConfig("other"), ours)
