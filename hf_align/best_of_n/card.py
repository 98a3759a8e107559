"""``README.md`` of a Best-of-N run: which files it holds, how they are used, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.best_of_n.raft.report import is_trained, raft_facts, raft_view
from hf_align.best_of_n.record import BestOfNRecord
from hf_align.best_of_n.report import COLUMNS, best_of_n_facts, best_of_n_view
from hf_align.reporting.markdown import code, inline, listed, table
from hf_align.reporting.run_view import listing, mapping
from hf_align.reporting.stage_parts import CardPart, Sources
from hf_align.runs import formatting
from hf_align.runs.record import redact


def rounds_section(record: Mapping[str, Any]) -> str:
    """What rejection-sampling fine-tuning adds to the card of its model."""
    view = raft_view(record)
    rows = [[row["name"], *row["cells"]] for row in listing(view["rows"])]
    parts = [
        "## Rounds",
        "\n".join(f"- {inline(name)}: {inline(text)}" for name, text in view["settings"]),
        table(view["columns"], rows, numbers=True) if rows else "",
        "\n\n".join(inline(note) for note in view["notes"]),
    ]
    return "\n\n".join(part for part in parts if part)


def best_of_n_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown. It describes data, so that it has no front matter of a model."""
    record = BestOfNRecord.of(record)
    recipe = redact(record.recipe)
    view = best_of_n_view(record) or {}
    samples = record.best_of_n.samples_per_prompt or recipe.get("num_generations")
    sources = [code(str(mapping(item).get("path") or item)) for item in listing(recipe.get("datasets"))]
    rewards = [
        code(str(name)) for key in ("reward_model", "reward_functions") for name in listing(recipe.get(key))
    ]
    version = record.versions.get("hf_align", "")
    model = code(str(recipe.get("model_name_or_path") or "a model"))
    introduction = [
        f"{formatting.count(samples)} answers of {model} to each prompt of "
        f"{listed(sources) if sources else 'its data'}, scored by "
        f"{listed(rewards) if rewards else 'its rewards'}; made with hf_align {inline(str(version))}."
    ]
    if record.status != "completed":
        introduction.append(f"**This run is not complete (status: {inline(record.status or 'unknown')}).**")
    facts = [[fact.label, fact.value, fact.detail] for fact in best_of_n_facts(record)]
    rows = [[row["name"], *row["cells"]] for row in listing(view.get("rows"))]
    seed = f"Seed {recipe['seed']}. " if recipe.get("seed") is not None else ""
    parts = [
        "# " + inline(f"Best of {formatting.count(samples)}"),
        " ".join(introduction),
        "## Results\n\n" + table(["", "", ""], facts) if facts else "",
        table(COLUMNS, rows, numbers=True) if rows else "",
        "\n\n".join(inline(note) for note in listing(view.get("notes"))),
        "\n".join(f"- {inline(name)}: {inline(text)}" for name, text in listing(view.get("settings"))),
        "The answers are a model's own: they may be wrong, and its licence and the data's apply to them.",
        f"## Reproduce\n\n{seed}The resolved recipe, all versions and the machine are in `run.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(record: Mapping[str, Any], said: Sources) -> list[str]:
    prompts = f" to the prompts of{said.on.removeprefix(' on')}"
    return [
        f"The result of fine-tuning on its own best answers (rejection sampling){said.of}{prompts}, "
        f"made with {said.made_with}."
    ]


CARD = CardPart(
    introduction=_introduction,
    whole=lambda record: None if is_trained(record) else best_of_n_card(record),
    results=raft_facts,
    sections=lambda record, rows: [rounds_section(record)],
    limits=lambda record: ["It was trained on what its reward prefers, and is as good as that reward."],
)
