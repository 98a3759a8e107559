"""What a pre-training run adds to the report and to the model card: held-out metrics, and the model's size.

Reads the run record like the rest of the page, and copes with whatever is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.pretraining.record import PretrainRecord
from hf_align.reporting.run_view import mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting

Row = Mapping[str, Any]

_LOADERS = {
    "encoder": ("AutoModelForMaskedLM", "fill-mask"),
    "encoder_decoder": ("AutoModelForSeq2SeqLM", "text2text-generation"),
    "decoder": ("AutoModelForCausalLM", "text-generation"),
}


def pretraining_view(record: Row) -> dict[str, Any]:
    """The same entries as those of ``preference_view``."""
    return {
        "id": "pretraining",
        "heading": "Held-out text",
        "settings": settings(record),
        "columns": columns(record),
        "rows": held_out(record),
        "notes": notes(record),
        "plots": [],
        "displacement": [],
        "label": "Held-out text before and after training",
    }


def settings(record: Row) -> list[tuple[str, str]]:
    """Objective and size, as (what, in words)."""
    record = PretrainRecord.of(record)
    model, found = record.model, record.pretraining
    words = [("Objective", found.objective)] if found.objective else []
    parameters, estimate = model.parameters, model.estimated_parameters
    if parameters and estimate:
        words.append(("Parameters", formatting.count(parameters)))
        vocabulary, layers, width = map(formatting.count, (model.vocabulary, model.layers, model.width))
        words.append(
            (
                "Estimate V·H + 12·L·H²",
                f"{formatting.count(estimate)} ({estimate / parameters - 1:+.1%}; V = {vocabulary}, "
                f"L = {layers}, H = {width})".replace("-", "−"),
            )
        )
    cost = model.training_flops_by_position
    if cost:
        words.append(("Operations per trained token", f"{cost / 1e6:,.1f} million, estimated"))
    stages = [stage_in_words(mapping(stage)) for stage in found.stages]
    if stages:
        words.append(("Stages", "; ".join(stages)))
    if found.averaged:
        listed = ", ".join(map(str, found.averaged))
        words.append(("Weights", f"mean of {len(found.averaged)} checkpoints: {listed}"))
    return words


def stage_in_words(stage: Row) -> str:
    """One stage of a schedule."""
    count = formatting.count
    return (
        f"{count(stage.get('steps'))} steps of {count(stage.get('rows'))} rows of up to "
        f"{count(stage.get('block_length'))} tokens, at {formatting.plain(stage.get('learning_rate'))} "
        f"({stage.get('lr_scheduler_type', stage.get('course'))})"
    )


def columns(record: Row) -> list[str]:
    """The columns of :func:`held_out`, the first that of the names."""
    named = ["held-out text", "targets", "unigram entropy", "loss", "perplexity", "predicted right"]
    return [*named, "bits a character"] if _has_bits(record) else named


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells``, for each data set and for pairs where there are any."""
    found = PretrainRecord.of(record).pretraining
    before = {str(item.get("name")): item for item in map(mapping, found.before)}
    rows = []
    for item in map(mapping, found.after or found.before):
        earlier = before.get(str(item.get("name")), {}) if found.after else {}
        cells = [formatting.count(item.get("target_tokens")), formatting.loss(item.get("unigram_entropy"))]
        shown = [
            ("loss", formatting.loss),
            ("perplexity", formatting.loss),
            ("token_accuracy", formatting.share),
        ]
        if _has_bits(record):
            shown.append(("bits_per_character", formatting.loss))
        for key, form in shown:
            cells.append(_change(earlier.get(key), item.get(key), form))
        rows.append({"name": str(item.get("name")), "cells": cells})
    return rows


def notes(record: Row) -> list[str]:
    """What the metrics mean, as sentences."""
    record = PretrainRecord.of(record)
    final = record.final_metrics
    said = []
    if held_out(record):
        said.append(
            "Loss in nats per target token. The unigram entropy is that of the same targets: the lowest loss "
            "of a model that knows how often each of them occurs and nothing else."
        )
    for key, name in (
        ("pair_accuracy", "Pairs of segments told apart"),
        ("boundary_accuracy", "Hidden tokens predicted right from the boundaries of their span"),
    ):
        if formatting.finite(final.get(f"eval_{key}")) is not None:
            said.append(
                f"{name}: {_change(final.get(f'eval_{key}_before'), final[f'eval_{key}'], formatting.share)}."
            )
    last = record.pretraining.eval_loss_last
    if last is not None:
        said.append(
            f"The mean of the checkpoints has the held-out loss {formatting.loss(final.get('eval_loss'))}, "
            f"the last of them {formatting.loss(last)}."
        )
    return said


def pipeline_tag(record: Row) -> str:
    """The hub's name of what the model does."""
    return _LOADERS.get(PretrainRecord.of(record).model.kind, _LOADERS["decoder"])[1]


def pretraining_loading(record: Row) -> str:
    """The section of the model card on how to load the model."""
    record = PretrainRecord.of(record)
    recipe = record.recipe
    folder = repr(str(recipe.get("output_dir") or "."))
    trust = ", trust_remote_code=True" if recipe.get("trust_remote_code") else ""
    loader = _LOADERS.get(record.model.kind, _LOADERS["decoder"])[0]
    note = ""
    if record.pretraining.objective == "span_mlm":
        note = "\n\nThe weights of the span-boundary head are in the files and are left out in loading."
    return (
        f"## Use\n\n```python\nfrom transformers import {loader}, AutoTokenizer\n"
        f"model = {loader}.from_pretrained({folder}{trust})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({folder}{trust})\n```{note}"
    )


def _has_bits(record: Row) -> bool:
    found = PretrainRecord.of(record).pretraining
    return any("bits_per_character" in mapping(item) for item in [*found.after, *found.before])


def _change(before: Any, after: Any, form: Any) -> str:
    if formatting.finite(before) is None:
        return str(form(after))
    return f"{form(before)} → {form(after)}"


def _method(record: Row) -> str:
    record = PretrainRecord.of(record)
    return f"pre-training ({record.pretraining.objective or record.recipe.get('objective')})"


REPORT = ReportPart(view=lambda record, rows, run_dir: pretraining_view(record), method=_method)
