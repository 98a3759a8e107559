"""What the model card of a classification run says: the figures, and how the model is loaded and used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.classification_view import CLASS_COLUMNS, COLUMNS, held_out, per_class, settings
from hf_align.reporting.markdown import inline, table
from hf_align.reporting.reward_card import is_adapter, plain_loading
from hf_align.reporting.run_view import mapping


def classification_section(record: Mapping[str, Any]) -> str:
    """The held-out figures; an empty string for other runs."""
    if record.get("command") != "classify":
        return ""
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
    recipe = mapping(record.get("recipe"))
    folder = repr(str(recipe.get("output_dir") or "."))
    if is_adapter(record):
        lines = [
            "from hf_align.modeling.classifier import load_classifier",
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
    listed = "\n".join(lines)
    return f"## Use\n\n```python\n{listed}\n```\n\n{note}"
