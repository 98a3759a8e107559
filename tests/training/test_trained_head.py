"""A head that reads one token: padding on the right, packing where it can be, and the rows of a check."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer
from helpers.tiny_classifiers import save_model
from transformers import AutoModelForSequenceClassification

from hf_align.config import AdapterConfig
from hf_align.modeling.heads.sequence import install_sequence_head, reads_last_token
from hf_align.training.build import make_ready, may_pack, ready_for_rows
from hf_align.training.saving import CHECKED_ROWS, checked_rows


def run(**options: Any) -> Any:
    data = SimpleNamespace(packing=options.pop("packing", True), streaming=True, max_length=64)
    config = SimpleNamespace(data=data, adapter=AdapterConfig(**options))
    return SimpleNamespace(config=config, tokenizer=tiny_tokenizer(), data=SimpleNamespace(train=[], eval=[]))


@pytest.mark.parametrize(
    ("kind", "options", "packed"),
    [
        ("llama", {}, True),
        ("llama", {"packing": False}, False),
        ("llama", {"adapter": "prompt"}, False),
        ("bert", {}, False),
    ],
)
def test_what_reads_one_token_can_be_packed(
    tmp_path: Path, kind: str, options: dict[str, Any], packed: bool
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_model(kind, tmp_path), num_labels=1)
    wanted = reads_last_token(model) and may_pack(run(**options).config)
    assert (make_ready(model, install_sequence_head, pack=wanted) != "padded") is packed


def test_rows_are_padded_on_the_right_by_a_token_that_ends_nothing(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_model("llama", tmp_path), num_labels=1)
    made = run()
    made.tokenizer.padding_side = "left"
    pad = ready_for_rows(made, model)
    assert made.tokenizer.padding_side == "right" and pad != made.tokenizer.eos_token_id
    assert model.config.pad_token_id == pad


def test_held_out_rows_are_compared_first_also_of_a_stream() -> None:
    made = run()
    made.data = SimpleNamespace(train=iter(range(100)), eval=[])
    assert checked_rows(made) == list(range(CHECKED_ROWS))
    made.data = SimpleNamespace(train=[1], eval=[7, 8])
    assert checked_rows(made) == [7, 8]
