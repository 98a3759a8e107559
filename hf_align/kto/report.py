"""What a KTO run adds to the report: labels and weights, held-out rewards of both kinds, the KL estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.kto.metrics import HIGH, LOW, balanced
from hf_align.kto.record import KtoRecord
from hf_align.preference.report import reference, start
from hf_align.reporting.drawing import Plot
from hf_align.reporting.held_out import held_out_row
from hf_align.reporting.plots import MANY_POINTS, Curves, curve_plots
from hf_align.reporting.run_view import Fact
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting
from hf_align.runs.metrics import evaluation_rows, training_rows

Row = Mapping[str, Any]

CURVES = (
    Curves("Rewards", "reward", {"rewards/chosen": "desirable", "rewards/rejected": "undesirable"}),
    Curves("Reward margin", "desirable minus undesirable", {"rewards/margins": ""}),
    Curves(
        "Log-probability of the answers",
        "nats per answer",
        {"logps/chosen": "desirable", "logps/rejected": "undesirable"},
    ),
    Curves("KL estimate", "nats per answer", {"kl": ""}),
)
# (key of a held-out metric, what it is, form of its values). Where it has an interval, that is KEY_interval.
_METRICS = (
    ("auc", "Desirable answer has the higher reward, of all pairs", formatting.share),
    ("margin", "Reward margin of desirable answers", formatting.loss),
    ("desirable_reward", "Reward of desirable answers", formatting.loss),
    ("undesirable_reward", "Reward of undesirable answers", formatting.loss),
    ("kl", "KL estimate on mismatched pairs, nats", formatting.loss),
    ("unweighted_loss", "Loss without the weights of the labels", formatting.loss),
)


def kto_view(record: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """The same entries as those of the other stages with held-out metrics."""
    return {
        "id": "kto",
        "heading": "Labelled answers",
        "label": "Held-out answers before and after training",
        "settings": settings(record),
        "columns": ["held-out rows", "before", "after", "95 % interval"],
        "rows": held_out(record),
        "notes": _notes(record),
        "plots": kto_plots(rows),
        "displacement": [],
    }


def kto_plots(rows: Sequence[Row]) -> list[Plot]:
    """The plots that the metrics allow."""
    options: Any = {"said": ("training", "held-out"), "smooth_from": MANY_POINTS}
    return curve_plots(CURVES, "kto", training_rows(rows), evaluation_rows(rows), **options)


def settings(record: Row) -> list[tuple[str, str]]:
    """Loss, labels, weights, reference and the check of the start, as (what, in words)."""
    recipe = KtoRecord.of(record).recipe
    beta = f"beta {formatting.plain(recipe['beta'])}" if "beta" in recipe else ""
    loss = ", ".join(part for part in (str(recipe.get("loss_type") or ""), beta) if part)
    words = [("Loss", loss), *_labels(record)]
    words += [("Reference", reference(record)), ("Loss at the start", start(record))]
    return [(name, text) for name, text in words if text]


def _labels(record: Row) -> list[tuple[str, str]]:
    found, recipe = KtoRecord.of(record).labels, KtoRecord.of(record).recipe
    if found.desirable is None:
        return []
    counts = (
        f"{formatting.count(found.desirable)} desirable, {formatting.count(found.undesirable)} undesirable"
    )
    weights = " and ".join(
        f"{formatting.plain(recipe[key])} ({kind})"
        for kind in ("desirable", "undesirable")
        if (key := f"{kind}_weight") in recipe
    )
    if found.ratio is not None:
        where = "within" if balanced(found) else "outside"
        weights += f"; weighted counts stand at {found.ratio:.3g}, {where} the advised {LOW:g} to {HIGH:.3g}"
        if not balanced(found):
            low, high = found.desirable_weights
            other_low, other_high = found.undesirable_weights
            weights += (
                f": desirable_weight {low:.3g} to {high:.3g}, or undesirable_weight {other_low:.3g} to "
                f"{other_high:.3g}"
            )
    return [("Training rows", counts), ("Weights", weights)]


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells`` (before, after, interval) with what is known."""
    summary = KtoRecord.of(record).kto_summary
    before, after = summary.before, summary.after
    return [
        held_out_row(name, before, after, key, form)
        for key, name, form in _METRICS
        if key in before or key in after
    ]


def _notes(record: Row) -> list[str]:
    summary = KtoRecord.of(record).kto_summary
    rows = formatting.finite(summary.after.get("rows") or summary.before.get("rows"))
    if not rows:
        return []
    return [
        f"Over {formatting.count(rows)} held-out rows; the intervals are those of the rows, not of other "
        "seeds. A reward is beta times the log-probability that an answer has gained over the reference; "
        "before training all rewards are 0 where the model is its own reference.",
        "The loss starts at a half for every answer, whatever the data, and each row's is bounded: its level "
        "says little, the rewards of both kinds say more.",
    ]


def held_out_facts(record: Row) -> list[Fact]:
    """Headlines of held-out rows."""
    after = KtoRecord.of(record).kto_summary.after
    found = []
    for key, label, form in (
        ("auc", "Desirable answer ahead", formatting.share),
        ("margin", "Held-out reward margin", formatting.loss),
    ):
        if formatting.finite(after.get(key)) is not None:
            limits = formatting.between(after.get(f"{key}_interval"), form)
            found.append(Fact(label, form(after[key]), f"95 %: {limits}" if limits else ""))
    return found


REPORT = ReportPart(
    view=lambda record, rows, run_dir: kto_view(record, rows),
    held_out_facts=held_out_facts,
    metrics=lambda record: {"auc": KtoRecord.of(record).kto_summary.after.get("auc")},
)
