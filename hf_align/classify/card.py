"""What the model card of a classification run says: the metrics, and how the model is loaded and used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.classify.record import ClassifyRecord
from hf_align.classify.report import CLASS_COLUMNS, COLUMNS, held_out, per_class, settings
from hf_align.reporting.loading_section import classifier_front_matter, is_adapter, plain_loading
from hf_align.reporting.markdown import code, inline, listed, table
from hf_align.reporting.stage_parts import CardPart, Sources


def classification_section(record: Mapping[str, Any]) -> str:
    """The held-out metrics."""
    rows = [[row["name"], *row["cells"]] for row in held_out(record)]
    classes = per_class(record)
    parts = [
        "## Classification",
        "\n".join(f"- {name}: {inline(text)}" for name, text in settings(record)),
        table(COLUMNS, rows, numbers=True) if rows else "",
        table(CLASS_COLUMNS, classes, numbers=True) if classes else "",
    ]
    return "\n\n".join(part for part in parts if part)


def classification_loading(record: Mapping[str, Any]) -> str:
    """The section on how to load the model and classify a text."""
    recipe = ClassifyRecord.of(record).recipe
    folder = repr(str(recipe.get("output_dir") or "."))
    if is_adapter(record):
        lines = [
            "from hf_align.classify.model import load_classifier",
            f"model, tokenizer = load_classifier({folder})",
        ]
        note = "This folder holds an adapter with its head; this call loads its base as well."
    else:
        lines = plain_loading(recipe)
        note = "Batches may be padded on the right."
    lines += [
        "inputs = tokenizer('…', return_tensors='pt')",
        "label = model.config.id2label[model(**inputs).logits[0].argmax().item()]",
    ]
    example = "\n".join(lines)
    return f"## Use\n\n```python\n{example}\n```\n\n{note}"


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    names = listed([code(str(name)) for name in ClassifyRecord.of(record).labels] or ["texts"])
    return [
        f"A classifier, the result of fine-tuning{said.of}{said.on}, made with {said.made_with}.",
        f"It tells apart {names}.",
    ]


CARD = CardPart(
    introduction=_introduction,
    sections=lambda record, rows: [classification_section(record)],
    loading=classification_loading,
    front_matter=classifier_front_matter,
)
