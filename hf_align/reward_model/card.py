"""What the model card of a reward run says: the metrics, and how the model is loaded and used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.loading_section import classifier_front_matter, is_adapter, plain_loading
from hf_align.reporting.markdown import inline, table
from hf_align.reporting.stage_parts import CardPart, Sources
from hf_align.reward_model.report import COLUMNS, held_out, reference_scores, settings
from hf_align.saved_models.reward_record import RewardRecord


def reward_section(record: Mapping[str, Any]) -> str:
    """The held-out metrics."""
    rows = [[row["name"], *row["cells"]] for row in held_out(record)]
    parts = [
        "## Reward model",
        "\n".join(f"- {name}: {inline(text)}" for name, text in settings(record)),
        table(COLUMNS, rows, numbers=True) if rows else "",
        inline(reference_scores(record)),
    ]
    return "\n\n".join(part for part in parts if part)


def reward_loading(record: Mapping[str, Any]) -> str:
    """The section on how to load the model and score an answer."""
    recipe = RewardRecord.of(record).recipe
    folder = repr(str(recipe.get("output_dir") or "."))
    if is_adapter(record):
        lines = [
            "from hf_align.saved_models.reward_scoring import load_reward_model",
            f"reward = load_reward_model({folder})",
            "model, tokenizer = reward.model, reward.tokenizer",
        ]
        note = (
            "This folder holds an adapter with its head, trained on a base in 4 or 8 bits; this call loads "
            "that base as it was."
            if recipe.get("load_in_4bit") or recipe.get("load_in_8bit")
            else "This folder holds an adapter with its head; this call loads its base as well."
        )
    else:
        lines = plain_loading(recipe)
        note = "Batches may be padded on the right; the pad token ends no sequence."
    lines += [
        "turns = [{'role': 'user', 'content': '…'}, {'role': 'assistant', 'content': '…'}]",
        "inputs = tokenizer.apply_chat_template(turns, return_tensors='pt', return_dict=True)",
        "score = model(**inputs).logits[0, 0].item()",
    ]
    listed = "\n".join(lines)
    return f"## Use\n\n```python\n{listed}\n```\n\n{note}"


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    return [
        f"A reward model, the result of fine-tuning{said.of}{said.on}, made with {said.made_with}.",
        "It scores answers and writes none.",
    ]


CARD = CardPart(
    introduction=_introduction,
    sections=lambda record, rows: [reward_section(record)],
    loading=reward_loading,
    front_matter=classifier_front_matter,
)
