"""What supervised fine-tuning says in its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.stage_parts import CardPart, Sources
from hf_align.runs.schema import Record

_LEARNED = {
    "assistant": "the assistant's turns",
    "last": "the last answer of each conversation",
    "all": "all tokens",
}


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    sentences = [f"The result of supervised fine-tuning{said.of}{said.on}, made with {said.made_with}."]
    learned = _LEARNED.get(str(Record.of(record).recipe.get("train_on")))
    return [*sentences, f"The loss counts {learned}."] if learned else sentences


CARD = CardPart(introduction=_introduction)
