"""``README.md`` of a run folder: a model card in the form that the Hugging Face hub reads.

It states what the run record knows and nothing more: no licence (that is the base model's and the data's
matter), no claim about quality beyond the measured numbers. The same record gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_align.config.adapter import OWN
from hf_align.reporting.data_view import data_view, totals
from hf_align.reporting.front_matter import front_matter
from hf_align.reporting.html import headline_facts
from hf_align.reporting.loading_section import adapter_of, is_seq2seq, language_loading
from hf_align.reporting.markdown import code, inline, listed, table
from hf_align.reporting.run_view import listing, loss_change, mapping, method, model_name
from hf_align.reporting.stage_parts import CardPart, Sources
from hf_align.runs import formatting
from hf_align.runs.metrics import METRICS_FILE, read_metrics
from hf_align.runs.record import read_run, redact, write_atomic
from hf_align.runs.schema import Record
from hf_align.stages import part_of

CARD_FILE = "README.md"


def write_model_card(run_dir: str | os.PathLike[str]) -> Path:
    """(Re)write the model card of ``run_dir`` and return its path.

    Raises UserError if the folder holds no readable ``run.json``.
    """
    folder = Path(run_dir)
    record = read_run(folder)
    part = _part(record)
    card = part.whole(record) if part.whole is not None else None
    if card is None:
        card = model_card(record, read_metrics(folder / METRICS_FILE).rows)
    path = folder / CARD_FILE
    write_atomic(path, card.encode("utf-8", "replace"))
    return path


def _part(record: Record) -> CardPart:
    """What the stage of this run says in its card."""
    part: CardPart | None = part_of(record.command or "sft", "card")
    return part or CardPart()


def model_card(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown with YAML front matter."""
    record = Record.of(record)
    recipe: dict[str, Any] = redact(record.recipe)
    part = _part(record)
    parts = [
        _front_matter(record, recipe),
        f"# {_title(record, recipe)}",
        _introduction(record, recipe),
        "## Results\n\n" + _results(record, rows),
        *(part.sections(record, rows) if part.sections is not None else []),
        (part.loading or language_loading)(record),
        _data(record),
        _limits(record, rows),
        "## Reproduce\n\n" + _reproduce(record, recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _results(record: Record, rows: Sequence[Mapping[str, Any]]) -> str:
    part = _part(record)
    found = part.results(record) if part.results is not None else headline_facts(record, rows)
    return table(["", "", ""], [[fact.label, fact.value, fact.detail] for fact in found])


def _title(record: Record, recipe: Mapping[str, Any]) -> str:
    return inline(str(recipe.get("run_name") or f"{model_name(record)}, {method(record)}"))


def _front_matter(record: Record, recipe: Mapping[str, Any]) -> str:
    base = str(recipe.get("model_name_or_path") or "")
    adapter = adapter_of(recipe)
    tags = ["hf_align", record.command or "sft"] + ([adapter] if adapter else [])
    values: dict[str, Any] = {"base_model": base} if base else {}
    values |= {
        "library_name": _library(adapter),
        "pipeline_tag": _written(record),
        "tags": tags,
    }
    part = _part(record)
    return front_matter(values | (part.front_matter(record) if part.front_matter is not None else {}))


def _written(record: Record) -> str:
    """The hub's word for what the model does with text."""
    return "text2text-generation" if is_seq2seq(record) else "text-generation"


def _introduction(record: Record, recipe: Mapping[str, Any]) -> str:
    base = str(recipe.get("model_name_or_path") or "")
    made_with = f"hf_align {record.versions.get('hf_align', '')}".strip()
    of = f" of {code(base)}" if base else ""
    sources = [str(mapping(item).get("path") or item) for item in listing(recipe.get("datasets"))]
    on = f" on {listed([code(source) for source in sources])}" if sources else ""
    part = _part(record)
    if part.introduction is not None:
        sentences = part.introduction(record, Sources(of, on, made_with))
    else:
        stage = code(record.command)
        sentences = [f"The result of the stage {stage}{of}{on}, made with {made_with}."]
    if record.message:
        sentences.append(f"**{inline(record.message[:1].upper() + record.message[1:])}.**")
    elif record.status != "completed":
        sentences.append(f"**This run is not complete (status: {inline(record.status or 'unknown')}).**")
    return " ".join(sentences)


def _data(record: Record) -> str:
    view = data_view(record.data_report)
    if view is None:
        return ""
    rows = [[row["name"], *row["cells"]] for row in view["rows"]]
    return "\n\n".join(
        ["## Data", table(view["columns"], rows, numbers=True), *(inline(note) for note in view["notes"])]
    )


def _limits(record: Record, rows: Sequence[Mapping[str, Any]]) -> str:
    data = totals(record.data_report)
    targets = formatting.finite(data.get("target_tokens"))
    items = ["The limits, biases and licence of the base model and of the data apply to this model too."]
    part = _part(record)
    if part.limits is not None and (own := part.limits(record)):
        items += own
    elif targets:
        items.append(
            f"The training data hold {formatting.count(targets)} target tokens; what these do not cover "
            "was not learned here."
        )
    change = loss_change(record, rows)
    if change.name != "Held-out loss" or change.after is None:
        items.append("No held-out loss was measured after training.")
    else:
        items.append(
            "The held-out loss speaks for rows like the held-out ones; other data may give other results."
        )
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in items)


def _reproduce(record: Record, recipe: Mapping[str, Any]) -> str:
    versions = record.versions
    named = [
        f"{key} {versions[key]}" for key in ("python", "torch", "transformers", "peft") if key in versions
    ]
    seed = f"Seed {recipe['seed']}. " if recipe.get("seed") is not None else ""
    listed = f"Versions: {inline(', '.join(named))}. " if named else ""
    return (
        f"{seed}{listed}The resolved recipe, all versions and the machine are in `run.json`; curves and "
        "samples are in `report.html`."
    )


def _library(adapter: str) -> str:
    """What loads the result: of an adapter that PEFT lacks, this package."""
    if not adapter:
        return "transformers"
    return "hf_align" if adapter in OWN else "peft"
