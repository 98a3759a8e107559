"""The facts of a run in the words that the report and the model card share.

Reads the plain dictionaries of a run record and of the metrics and copes with whatever is missing: a run
that has just started, was interrupted, had no evaluation or no samples. No HTML and no Markdown here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from hf_align.reporting.data_view import totals
from hf_align.runs import formatting
from hf_align.runs.metrics import evaluation_rows, series, training_rows
from hf_align.runs.schema import Matches, Model, Record
from hf_align.stages import part_of
from hf_align.statistics.calibration import wilson_interval

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Fact:
    """One headline: what it is, its value, and a few words more or an empty string."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class LossChange:
    """A loss in nats per target token before and after training, where known; ``name`` says on which rows."""

    name: str
    before: float | None
    after: float | None


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is a dictionary, else an empty one: run records can be old, partial or edited."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def model_name(record: Row) -> str:
    """The short name of the base model: the last part of its path or hub id."""
    record = Record.of(record)
    full = str(record.recipe.get("model_name_or_path") or record.model.name)
    return PurePath(full).name or "unnamed model"


def method(record: Row) -> str:
    """How the weights were trained: ``LoRA (r = 16)``, ``QLoRA (NF4, r = 16)``, ``bottleneck (parallel)``,
    ``full fine-tuning``, ``chosen weights (norms)``.

    Where none were, what was done: ``best of 16``.
    """
    record = Record.of(record)
    recipe = record.recipe
    part = part_of(record.command, "report")
    if part is not None and part.method is not None and (own := part.method(record)):
        return str(own)
    adapter = str(recipe.get("adapter") or record.model.adapter or "none")
    if adapter == "none":
        if recipe.get("freeze_base"):
            return "a head on frozen features"
        if recipe.get("init_from") in ("random", "embeddings"):
            words = "random weights" if recipe["init_from"] == "random" else "its token embeddings alone"
            return f"trained from {words}"
        if chosen := listing(recipe.get("trainable")):
            return f"chosen weights ({', '.join(map(str, chosen))})"
        return "full fine-tuning" if recipe else formatting.MISSING
    low_rank = adapter in ("lora", "qlora")
    name = ("DoRA" if recipe.get("use_dora") else "LoRA") if low_rank else adapter
    detail = f"r = {recipe['lora_r']}" if low_rank and recipe.get("lora_r") is not None else ""
    if low_rank and recipe.get("init_lora_weights") not in (None, "default"):
        detail = ", ".join(note for note in (detail, str(recipe["init_lora_weights"])) if note)
    if adapter == "bottleneck":
        detail = str(recipe.get("bottleneck_placement") or "")
    base = ""
    if recipe.get("load_in_4bit"):
        base = str(recipe.get("bnb_4bit_quant_type") or "4-bit").upper()
        name, base = (f"Q{name}", base) if low_rank else (name, f"{base} base")
    elif recipe.get("load_in_8bit"):
        base = "int8 base"
    notes = ", ".join(note for note in (base, detail) if note)
    return f"{name} ({notes})" if notes else name


def stage_metrics(record: Row) -> dict[str, Any]:
    """What a stage measures besides the final metrics, by name, for comparisons of runs."""
    part = part_of(Record.of(record).command, "report")
    return dict(part.metrics(record)) if part is not None and part.metrics is not None else {}


def loss_change(record: Row, rows: Sequence[Row]) -> LossChange:
    """Held-out loss where there was an evaluation, otherwise the first and last logged training loss."""
    record = Record.of(record)
    final = record.final_metrics
    evaluations = evaluation_rows(rows)
    held_out = [(row.get("step"), formatting.number(row.get("eval_loss"))) for row in evaluations]
    before = formatting.number(final.get("eval_loss_before"))
    if before is None and held_out and formatting.finite(held_out[0][0]) == 0:
        before = held_out[0][1]
    after = formatting.number(final.get("eval_loss"))
    if after is None and held_out and formatting.finite(held_out[-1][0]) != 0:
        after = held_out[-1][1]
    if before is not None or after is not None:
        return LossChange("Held-out loss", before, after)
    training = [formatting.number(row.get("loss")) for row in training_rows(rows)]
    known = [value for value in training if value is not None]
    if known:
        return LossChange("Training loss", known[0] if len(known) > 1 else None, known[-1])
    return LossChange("Training loss", None, formatting.number(final.get("train_loss")))


def facts(record: Row, rows: Sequence[Row]) -> list[Fact]:
    """The headline facts, in reading order; what is unknown is left out."""
    record = Record.of(record)
    model, recipe = record.model, record.recipe
    final = record.final_metrics
    # Only there is the loss of a run that was cut short known to be one of tokens.
    by_token = record.command in ("", "sft")
    found = [_change_fact(loss_change(record, rows), final, by_token=by_token)]
    part = part_of(record.command, "report")
    found += part.held_out_facts(record) if part is not None and part.held_out_facts is not None else []
    found += [_match_fact(record), *_call_facts(record)]
    found.append(Fact("Method", method(record), _attention_note(model)))
    found.append(_parameters_fact(model))
    found.append(_eva_fact(record.eva))
    if model.precision:
        found.append(Fact("Precision", model.precision, _weights_note(recipe)))
    data = totals(record.data_report)
    found.append(_number_fact("Training rows", data.get("rows"), formatting.count))
    if record.command != "classify":
        found.append(
            _number_fact(
                "Target tokens in the data", data.get("target_tokens"), formatting.count, _token_share(data)
            )
        )
    train = training_rows(rows)
    last_step = train[-1]["step"] if train else None
    steps = f"{formatting.count(last_step)} {'step' if last_step == 1 else 'steps'}" if train else ""
    # A record that was written before the run ended knows less than the log.
    clocks = [record.wall_time_seconds, *series(train, "time_seconds").values[-1:]]
    seconds = max((clock for clock in clocks if clock is not None), default=None)
    found.append(_number_fact("Wall time", seconds, formatting.duration, steps))
    speeds = series(train, "tokens_per_second").values
    speed = record.tokens_per_second or (statistics.median(speeds) if speeds else None)
    found.append(_number_fact("Throughput", speed, lambda value: f"{formatting.rate(value)} tokens/s"))
    memory = record.peak_memory_bytes or max(series(train, "peak_memory_bytes").values, default=None)
    found.append(_number_fact("Peak memory", memory, formatting.size))
    return [fact for fact in found if fact is not None]


def _change_fact(change: LossChange, final: Row, *, by_token: bool) -> Fact | None:
    if change.before is None and change.after is None:
        return None
    value = formatting.loss(change.after if change.before is None else change.before)
    if change.before is not None and change.after is not None:
        value = f"{value} → {formatting.loss(change.after)}"
    perplexity = formatting.finite(final.get("eval_perplexity"))
    if (
        perplexity is None
        and by_token
        and change.name == "Held-out loss"
        and change.after is not None
        and change.after < 50
    ):
        perplexity = math.exp(change.after)
    if perplexity is not None and change.name == "Held-out loss":
        return Fact(change.name, value, f"perplexity {formatting.loss(perplexity)}")
    return Fact(change.name, value, "before training" if change.after is None else "")


def _match_fact(record: Record) -> Fact | None:
    match = record.sample_exact_match
    known = {"before": match.before, "after": match.after}
    known = {when: share for when, share in known.items() if share is not None}
    if not known:
        return None
    asked = len(record.generations)
    details = [f"of {asked} held-out {'prompt' if asked == 1 else 'prompts'}"] if asked else []
    details += [f"{when} training" for when in known] if len(known) == 1 else []
    value = " → ".join(map(formatting.share, known.values()))
    return Fact("Samples answered exactly", value, ", ".join(details))


def _call_facts(record: Record) -> list[Fact | None]:
    """Calls of tools in the samples: with the right arguments, of the right function, and where none is
    due."""
    calls = record.sample_calls
    return [
        _share_fact("Calls exactly right", calls.exact, calls.rows, "function and arguments"),
        _share_fact("Calls of the right function", calls.name, calls.rows, ""),
        _share_fact("No call where none is due", calls.none, calls.other_rows, ""),
    ]


def _share_fact(label: str, match: Matches, rows: int | None, detail: str) -> Fact | None:
    """``before → after`` of a share of ``rows``, with Wilson's interval of the last."""
    known = [share for share in (match.before, match.after) if share is not None]
    if not known or not rows:
        return None
    low, high = wilson_interval(known[-1], rows)
    interval = f"95 %: {100 * low:.0f} to {100 * high:.0f}, of {rows} held-out prompts"
    value = " → ".join(map(formatting.share, known))
    return Fact(label, value, f"{detail}; {interval}" if detail else interval)


def _parameters_fact(model: Model) -> Fact | None:
    trained, every = model.trainable_parameters, model.parameters
    if trained is None:
        return None
    detail = f"of {formatting.short_count(every)} ({formatting.share(trained / every)})" if every else ""
    return Fact("Trained parameters", formatting.short_count(trained), detail)


def _eva_fact(eva: Row) -> Fact | None:
    """The ranks that EVA gave the layers, and how much of their inputs its directions explain."""
    ranks = [layer["rank"] for layer in listing(eva.get("layers")) if isinstance(layer, dict)]
    if not ranks:
        return None
    share = formatting.finite(eva.get("explained_variance"))
    detail = "" if share is None else f"explain {formatting.share(share)} of the variance of the inputs"
    return Fact("Ranks by EVA", f"{min(ranks)} to {max(ranks)}", detail)


def _number_fact(label: str, value: Any, form: Any, detail: str = "") -> Fact | None:
    return None if formatting.finite(value) is None else Fact(label, form(value), detail)


def _token_share(data: Row) -> str:
    tokens, targets = formatting.finite(data.get("tokens")), formatting.finite(data.get("target_tokens"))
    return (
        f"{formatting.share(targets / tokens)} of {formatting.short_count(tokens)} tokens"
        if tokens and targets
        else ""
    )


def _attention_note(model: Model) -> str:
    return {"segments": "packed without padding", "padded": "padded batches"}.get(model.attention, "")


def _weights_note(recipe: Row) -> str:
    for key, note in (("load_in_4bit", "base weights in 4 bits"), ("load_in_8bit", "base weights in 8 bits")):
        if recipe.get(key):
            return note
    return ""
