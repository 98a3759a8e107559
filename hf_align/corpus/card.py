"""``README.md`` of a corpus: where it came from, what was done, what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.corpus.record import CorpusRecord
from hf_align.corpus.report import corpus_facts, corpus_title, corpus_view
from hf_align.reporting.markdown import code, inline, table
from hf_align.reporting.run_view import listing, mapping
from hf_align.reporting.stage_parts import CardPart
from hf_align.runs.record import redact


def corpus_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown with YAML front matter."""
    record = CorpusRecord.of(record)
    recipe = redact(record.recipe)
    view = corpus_view(record, [], "")
    sources = ", ".join(code(str(mapping(entry).get("path"))) for entry in listing(recipe.get("datasets")))
    parts = [
        "---\ntags:\n- hf_align\n- corpus\n---",
        f"# {inline(corpus_title(record))}",
        f"Cleaned from {sources}." if sources else "",
        table(["", "", ""], [[fact.label, fact.value, fact.detail] for fact in corpus_facts(record)]),
        "## Steps\n\n"
        + table(
            ["step", "documents left", "words left", "of documents", "of words"],
            [[row["name"], *row["cells"]] for row in view["funnel"]],
            numbers=True,
        ),
        "Removed documents are in `removed/` with the step, its reason, the value and the limit."
        if recipe.get("keep_removed") and not view["dry_run"]
        else "",
    ]
    if record.recipe_path:
        parts.append(f"Made with {code('hf-align corpus --config ' + record.recipe_path)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


CARD = CardPart(whole=corpus_card)
