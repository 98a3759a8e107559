"""``README.md`` of a tokenizer's folder: what it was made from, what it compresses, how to load it.

It states what the run record knows and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.markdown import code, inline, listed, table
from hf_align.reporting.run_view import listing, mapping
from hf_align.reporting.stage_parts import CardPart
from hf_align.runs.record import redact
from hf_align.tokenization.record import Extended, TokenizerRecord
from hf_align.tokenization.report import COLUMNS, tokenizer_facts, tokenizer_title, tokenizer_view


def tokenizer_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown with YAML front matter."""
    record = TokenizerRecord.of(record)
    recipe = redact(record.recipe)
    sources = [str(mapping(entry).get("path")) for entry in listing(recipe.get("datasets"))]
    extended = bool(recipe.get("extend"))
    what = f"{code(str(recipe['extend']))} with a larger vocabulary" if extended else "A tokenizer"
    trained = f"{what}, trained on {listed([code(source) for source in sources])}." if sources else f"{what}."
    parts = [
        "---\nlibrary_name: transformers\ntags:\n- hf_align\n- tokenizer\n---",
        f"# {inline(tokenizer_title(record))}",
        trained,
        table(["", "", ""], [[fact.label, fact.value, fact.detail] for fact in tokenizer_facts(record)]),
        *_tables(record),
        _use(record.extension),
    ]
    if record.recipe_path:
        parts.append(f"Made with {code('hf-align tokenizer --config ' + record.recipe_path)}.")
    return "\n\n".join(parts) + "\n"


def _tables(record: Mapping[str, Any]) -> list[str]:
    view = tokenizer_view(record) or {"tables": []}
    found = []
    for item in view["tables"]:
        rows = [[row["name"], *row["cells"]] for row in item["rows"]]
        found.append(f"## {item['title']}\n\n" + table(COLUMNS, rows, numbers=True))
    return found


def _use(extension: Extended) -> str:
    lines = ["from transformers import AutoTokenizer", 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
    if extension.model:
        lines[0] = f"from transformers import AutoTokenizer, {extension.model}"
        lines.append(f'model = {extension.model}.from_pretrained("FOLDER")')
    note = "Put the path of this folder, or its hub id, in place of `FOLDER`."
    if extension.model:
        note += " The rows of the new tokens are means and have to be trained."
    return f"## Use\n\n{note}\n\n```python\n" + "\n".join(lines) + "\n```"


CARD = CardPart(whole=tokenizer_card)
