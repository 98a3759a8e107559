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
from hf_align.reporting import formatting
from hf_align.reporting.best_of_n_card import rounds_section, write_best_of_n_card
from hf_align.reporting.classification_card import classification_loading, classification_section
from hf_align.reporting.data_view import data_view, totals
from hf_align.reporting.front_matter import front_matter
from hf_align.reporting.language_card import adapter_of, is_seq2seq, language_loading
from hf_align.reporting.markdown import code, inline, listed, table
from hf_align.reporting.metrics import METRICS_FILE, read_metrics
from hf_align.reporting.pipeline_card import write_pipeline_card
from hf_align.reporting.ppo_view import ppo_facts
from hf_align.reporting.preference_view import fall, held_out, settings
from hf_align.reporting.pretraining_view import columns as pretraining_columns
from hf_align.reporting.pretraining_view import held_out as pretraining_rows
from hf_align.reporting.pretraining_view import notes as pretraining_notes
from hf_align.reporting.pretraining_view import pipeline_tag, pretraining_loading
from hf_align.reporting.pretraining_view import settings as pretraining_settings
from hf_align.reporting.raft_view import is_trained, raft_facts
from hf_align.reporting.reward_card import is_adapter, reward_loading, reward_section
from hf_align.reporting.run_record import read_run, redact, write_atomic
from hf_align.reporting.run_view import facts, listing, loss_change, mapping, method, model_name
from hf_align.reporting.tokenizer_card import write_tokenizer_card

CARD_FILE = "README.md"


def write_model_card(run_dir: str | os.PathLike[str]) -> Path:
    """(Re)write the model card of ``run_dir`` and return its path.

    Raises UserError if the folder holds no readable ``run.json``.
    """
    folder = Path(run_dir)
    record = read_run(folder)
    if record.get("command") == "best-of-n" and not is_trained(record):  # which has no model of its own
        return write_best_of_n_card(folder)
    if record.get("command") == "tokenizer":
        return write_tokenizer_card(folder)
    if record.get("command") == "pipeline":
        return write_pipeline_card(folder)
    path = folder / CARD_FILE
    card = model_card(record, read_metrics(folder / METRICS_FILE).rows)
    write_atomic(path, card.encode("utf-8", "replace"))
    return path


def model_card(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown with YAML front matter."""
    recipe = mapping(redact(record.get("recipe")))
    parts = [
        _front_matter(record, recipe),
        f"# {_title(record, recipe)}",
        _introduction(record, recipe),
        "## Results\n\n" + _results(record, rows),
        _preferences(record, rows),
        rounds_section(record),
        reward_section(record),
        classification_section(record),
        _held_out_text(record),
        _use(record),
        _data(record),
        _limits(record, rows),
        "## Reproduce\n\n" + _reproduce(record, recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(record: Mapping[str, Any]) -> str:
    own = {
        "reward": reward_loading,
        "classify": classification_loading,
        "pretrain": pretraining_loading,
    }.get(str(record.get("command")))
    return (own or language_loading)(record)


def _results(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    found = raft_facts(record) if is_trained(record) else [*ppo_facts(record), *facts(record, rows)]
    return table(["", "", ""], [[fact.label, fact.value, fact.detail] for fact in found])


def _title(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    return inline(str(recipe.get("run_name") or f"{model_name(record)}, {method(record)}"))


def _front_matter(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    base = str(recipe.get("model_name_or_path") or "")
    adapter = adapter_of(recipe)
    tags = ["hf_align", str(record.get("command") or "sft")] + ([adapter] if adapter else [])
    values: dict[str, Any] = {"base_model": base} if base else {}
    scores = record.get("command") in ("reward", "classify")
    values |= {
        "library_name": _library(adapter) if not scores or is_adapter(record) else "transformers",
        "pipeline_tag": "text-classification" if scores else _written(record),
        "tags": tags,
    }
    if record.get("command") == "pretrain":
        values["pipeline_tag"] = pipeline_tag(record)
    return front_matter(values)


def _written(record: Mapping[str, Any]) -> str:
    """The hub's word for what the model does with text."""
    return "text2text-generation" if is_seq2seq(record) else "text-generation"


def _introduction(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    base = str(recipe.get("model_name_or_path") or "")
    made_with = f"hf_align {mapping(record.get('versions')).get('hf_align', '')}".strip()
    of = f" of {code(base)}" if base else ""
    sources = [str(mapping(item).get("path") or item) for item in listing(recipe.get("datasets"))]
    on = f" on {listed([code(source) for source in sources])}" if sources else ""
    sentences = [f"The result of supervised fine-tuning{of}{on}, made with {made_with}."]
    if record.get("command") not in (None, "sft"):
        sentences = [
            f"The result of the stage {code(str(record['command']))}{of}{on}, made with {made_with}."
        ]
    if record.get("command") == "reward":
        sentences = [
            f"A reward model, the result of fine-tuning{of}{on}, made with {made_with}.",
            "It scores answers and writes none.",
        ]
    if record.get("command") == "classify":
        names = listed([code(str(name)) for name in listing(record.get("labels"))] or ["texts"])
        sentences = [
            f"A classifier, the result of fine-tuning{of}{on}, made with {made_with}.",
            f"It tells apart {names}.",
        ]
    if record.get("command") == "pretrain":
        sentences = [f"The result of pre-training{of}{on}, made with {made_with}."]
    if record.get("command") == "dpo":
        sentences = [f"The result of preference optimisation{of}{on}, made with {made_with}."]
    if record.get("command") == "ppo":
        sentences = [f"The result of proximal policy optimisation{of}{on}, made with {made_with}."]
    if is_trained(record):
        how = "fine-tuning on its own best answers (rejection sampling)"
        sentences = [
            f"The result of {how}{of} to the prompts of{on.removeprefix(' on')}, made with {made_with}."
        ]
    learned = {
        "assistant": "the assistant's turns",
        "last": "the last answer of each conversation",
        "all": "all tokens",
    }
    if record.get("command") in (None, "sft") and recipe.get("train_on") in learned:
        sentences.append(f"The loss counts {learned[str(recipe['train_on'])]}.")
    status = record.get("status")
    if record.get("message"):
        said = str(record["message"])
        sentences.append(f"**{inline(said[:1].upper() + said[1:])}.**")
    elif status != "completed":
        sentences.append(f"**This run is not complete (status: {inline(str(status or 'unknown'))}).**")
    return " ".join(sentences)


def _preferences(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What a preference run adds; empty for other runs."""
    if record.get("command") != "dpo":
        return ""
    facts_of_the_loss = [f"- {name}: {inline(text)}" for name, text in settings(record)]
    measured = [[row["name"], *row["cells"]] for row in held_out(record)]
    columns = ["held-out prompts", "before", "after", "95 % interval"]
    parts = [
        "## Preferences",
        "\n".join(facts_of_the_loss),
        table(columns, measured, numbers=True) if measured else "",
        # The first paragraph has this run's figures; what they mean in general stays in the report.
        *(inline(paragraph) for paragraph in fall(record, rows)[:1]),
    ]
    return "\n\n".join(part for part in parts if part)


def _held_out_text(record: Mapping[str, Any]) -> str:
    """What a pre-training run adds; empty for other runs."""
    if record.get("command") != "pretrain":
        return ""
    measured = [[row["name"], *row["cells"]] for row in pretraining_rows(record)]
    parts = [
        "## Held-out text",
        "\n".join(f"- {name}: {inline(text)}" for name, text in pretraining_settings(record)),
        table(pretraining_columns(record), measured, numbers=True) if measured else "",
        *(inline(note) for note in pretraining_notes(record)),
    ]
    return "\n\n".join(part for part in parts if part)


def _data(record: Mapping[str, Any]) -> str:
    view = data_view(record.get("data_report"))
    if view is None:
        return ""
    rows = [[row["name"], *row["cells"]] for row in view["rows"]]
    return "\n\n".join(
        ["## Data", table(view["columns"], rows, numbers=True), *(inline(note) for note in view["notes"])]
    )


def _limits(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    data = totals(record.get("data_report"))
    targets = formatting.finite(data.get("target_tokens"))
    items = ["The limits, biases and licence of the base model and of the data apply to this model too."]
    if is_trained(record):
        items.append("It was trained on what its reward prefers, and is as good as that reward.")
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


def _reproduce(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    versions = mapping(record.get("versions"))
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
