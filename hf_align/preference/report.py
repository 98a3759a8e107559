"""The part of the report and of the model card that a preference run adds: what became of the two answers.

Reads the run record and the metrics like the rest of the page, and copes with whatever is missing. The curves
are in ``plots``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.preference.plots import preference_plots
from hf_align.preference.record import DpoRecord
from hf_align.reporting.held_out import held_out_row
from hf_align.reporting.run_view import Fact, listing
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting
from hf_align.runs.metrics import evaluation_rows, series, training_rows

Row = Mapping[str, Any]

CHANGE = "logps/chosen_change"
LIKELIER = "likelihood_accuracy"

# (key of a held-out metric, what it is, form of its values). Where it has an interval, that is KEY_interval.
_METRICS = (
    ("accuracy", "Pairs with the higher reward on the chosen answer", formatting.share),
    (LIKELIER, "Pairs whose chosen answer is likelier per token", formatting.share),
    ("margin", "Reward margin of the chosen answer", formatting.loss),
    ("logps/chosen", "Log-probability of the chosen answers, nats", formatting.loss),
    ("logps/rejected", "Log-probability of the rejected answers, nats", formatting.loss),
    (CHANGE, "Change of the chosen answers, nats per token", formatting.loss),
    ("kl", "Distance from the reference, nats per token", formatting.loss),
    ("pairwise_loss", "Pairwise loss", formatting.loss),
)


def preference_view(record: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """``settings``, ``columns`` and ``rows`` of a table, ``notes``, ``displacement`` in paragraphs,
    ``plots``."""
    return {
        "id": "preferences",
        "heading": "Preferences",
        "settings": settings(record),
        "columns": ["held-out prompts", "before", "after", "95 % interval"],
        "rows": held_out(record),
        "notes": _notes(record),
        "displacement": displacement(record, rows),
        "plots": preference_plots(rows, bound=DpoRecord.of(record).preference_summary.chosen_fall.bound),
    }


def settings(record: Row) -> list[tuple[str, str]]:
    """Loss, reference and the check of the start, as (what, in words)."""
    recipe = DpoRecord.of(record).recipe
    losses = [str(name) for name in listing(recipe.get("loss"))]
    weights = listing(recipe.get("loss_weights")) or [1.0] * len(losses)
    weighted = [
        name if len(losses) == 1 else f"{formatting.plain(weight)} × {name}"
        for name, weight in zip(losses, weights, strict=False)
    ]
    if formatting.finite(recipe.get("sft_weight")):
        weighted.append(f"{formatting.plain(recipe['sft_weight'])} × likelihood of the chosen answer")
    beta = f"beta {formatting.plain(recipe['beta'])}" if "beta" in recipe else ""
    words = [("Loss", ", ".join(part for part in (" + ".join(weighted), beta) if part))]
    return [
        (name, text)
        for name, text in [*words, ("Reference", reference(record)), ("Loss at the start", start(record))]
        if text
    ]


def reference(record: Row) -> str:
    """What the model was compared with while it trained."""
    found = DpoRecord.of(record).reference
    kind, name = found.kind, found.model
    if kind == "none":
        return "none: the answers' own probabilities are compared"
    if kind == "adapter switched off":
        return f"{name} with the adapter switched off, in the same step"
    if not kind:
        return ""
    rows = formatting.count(found.rows)
    taken = "taken from an earlier run" if found.reused else "computed beforehand"
    return f"{name}, log-probabilities of {rows} rows {taken}"


def start(record: Row) -> str:
    """Whether the run began with the loss that theory gives."""
    check = DpoRecord.of(record).start_check
    if check.found:
        listed = ", ".join(f"{formatting.loss(value)} ({name})" for name, value in check.found.items())
        return f"{listed}; theory gives {formatting.loss(check.expected)}"
    return f"not compared with theory: {check.why}" if check.why else ""


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells`` (before, after, interval) with what is known."""
    summary = DpoRecord.of(record).preference_summary
    before, after = summary.before, summary.after
    return [
        held_out_row(name, before, after, key, form)
        for key, name, form in _METRICS
        if key in before or key in after
    ]


def _notes(record: Row) -> list[str]:
    record = DpoRecord.of(record)
    before, after = record.preference_summary.before, record.preference_summary.after
    notes = []
    prompts = formatting.finite(after.get("prompts") or before.get("prompts"))
    if prompts:
        notes.append(
            f"Means over {formatting.count(prompts)} held-out prompts; the intervals are those of the "
            "prompts, not of other seeds."
        )
    if "kl" in before or "kl" in after:
        notes.append(
            "The distance from the reference is half the squared log-ratio of the answers' tokens: the KL "
            "divergence for small changes, and for large ones only a measure of how far the model has moved."
        )
    if record.reference.kind not in ("", "none"):
        notes.append(
            "A reward is beta times the log-probability that an answer has gained over the reference. Before "
            "training all rewards are 0 where the model is its own reference, so that no answer has the "
            "higher one; the likelihood per token shows what the model preferred then."
        )
    if record.reference.kind == "none":
        notes.append(
            "Without a reference a reward is beta times the log-probability of the whole answer, of which a "
            "long answer has less whatever it says. The likelihood per token does not depend on the length."
        )
    return notes


def displacement(record: Row, rows: Sequence[Row]) -> list[str]:
    """What became of the chosen answers themselves, with this run's metrics, as paragraphs."""
    change, where = _last_change(record, rows)
    if change is None:
        return []
    moved = "gained" if change >= 0 else "lost"
    first = (
        f"The chosen answers have {moved} {abs(change):.3g} nats per token against the reference on the "
        f"{where} rows: their tokens are {_likelier(change)}, by their geometric mean."
    )
    first += _course(record)
    general = (
        "A pairwise loss asks for a distance between two answers, not for the chosen one to become likelier. "
        "It falls as well when both become less likely, the rejected one faster; what both lose goes to text "
        "that nobody compared (arXiv 2402.13228, 2410.08847). Answers with many tokens in common fall "
        "together the most. "
    )
    warned = DpoRecord.of(record).preference_summary.chosen_fall.warned_at is not None
    if change >= 0 and not warned:
        return [first, general + "Here it has not happened."]
    if not warned:
        return [first, general + "A fall of this size is usual. Look at the generations all the same."]
    return [
        first,
        general + "Where the generations have become worse, sft_weight (0.1, for example) keeps the chosen "
        "answers likely; a lower learning rate, fewer epochs and a higher beta keep the model closer to its "
        "reference.",
    ]


def _likelier(change: float) -> str:
    if change < 0.7:
        return f"{abs(math.expm1(change)):.0%} {'likelier' if change >= 0 else 'less likely'} than they were"
    return f"{math.exp(min(change, 50.0)):.2g} times as likely as they were"


def _course(record: Row) -> str:
    found = DpoRecord.of(record).preference_summary.chosen_fall
    lowest, bound = found.lowest, found.bound
    if lowest is None or lowest >= 0:
        return ""
    text = f" The lowest value that was logged is {lowest:.3g}, at step {formatting.count(found.step)}"
    if bound is not None:
        beyond = "beyond" if lowest < -bound else "within"
        text += f", {beyond} the bound of {formatting.plain(-bound)} (chosen_fall_warning)"
    return text + "."


def _last_change(record: Row, rows: Sequence[Row]) -> tuple[float | None, str]:
    """The change of the chosen answers, and on which rows it was measured."""
    known = formatting.finite(DpoRecord.of(record).preference_summary.after.get(CHANGE))
    if known is not None:
        return known, "held-out"
    for found, key, where in (
        (evaluation_rows(rows), f"eval_{CHANGE}", "held-out"),
        (training_rows(rows), CHANGE, "training"),
    ):
        steps, values, _ = series(found, key)
        if values and steps[-1] > 0:
            return values[-1], where
    return None, ""


def held_out_facts(record: Row) -> list[Fact]:
    """Headlines of held-out prompts."""
    summary = DpoRecord.of(record).preference_summary
    before, after = summary.before, summary.after
    found = []
    for key, label, form in (
        ("accuracy", "Held-out accuracy", formatting.share),
        ("margin", "Held-out reward margin", formatting.loss),
    ):
        if formatting.finite(after.get(key)) is None:
            continue
        limits = formatting.between(after.get(f"{key}_interval"), form)
        found.append(Fact(label, form(after[key]), f"95 %: {limits}" if limits else ""))
    if all(formatting.finite(metrics.get(LIKELIER)) is not None for metrics in (before, after)):
        change = f"{formatting.share(before[LIKELIER])} → {formatting.share(after[LIKELIER])}"
        found.append(Fact("Chosen answer likelier", change, "per token, held-out pairs"))
    return found


def _metrics(record: Row) -> dict[str, Any]:
    return {LIKELIER: DpoRecord.of(record).preference_summary.after.get(LIKELIER)}


REPORT = ReportPart(
    view=lambda record, rows, run_dir: preference_view(record, rows),
    held_out_facts=held_out_facts,
    metrics=_metrics,
)
