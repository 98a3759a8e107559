"""What a reward run adds to the report and to the model card: how good and how honest the scores are.

Reads the run record like the rest of the page, and copes with whatever is missing. Drawings are in
``plots`` and ``preference.plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.preference.plots import preference_plots
from hf_align.reporting.held_out import accuracy_fact, held_out_row, merged_setting
from hf_align.reporting.run_view import mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.reward_model.plots import reward_plots
from hf_align.runs import formatting
from hf_align.saved_models.reward_record import RewardRecord

Row = Mapping[str, Any]

COLUMNS = ["held-out pairs", "before", "after", "95 % interval"]
_GROUPS = (
    ("longer_better", "Accuracy where the chosen answer is longer"),
    ("shorter_better", "Accuracy where the chosen answer is shorter"),
    ("equal", "Accuracy where both are equally long"),
)


def reward_view(record: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """The same entries as those of ``preference.report``."""
    evaluations = RewardRecord.of(record).reward_evaluation
    return {
        "id": "reward",
        "heading": "Reward model",
        "samples_title": "Compared answers",
        "samples_note": "Each answer is scored at the last token of its sequence, after all that stands "
        "before it. The answer itself is marked.",
        "settings": settings(record),
        "columns": COLUMNS,
        "rows": held_out(record),
        "notes": notes(record),
        "plots": [*reward_plots(evaluations), *preference_plots(rows)],
        "displacement": [],
    }


def settings(record: Row) -> list[tuple[str, str]]:
    """Head, centring and padding, as (what, in words)."""
    record = RewardRecord.of(record)
    recipe, model = record.recipe, record.model
    centring = formatting.finite(recipe.get("center_rewards_coefficient"))
    words = [
        ("Centring", f"{formatting.plain(centring)} x (sum of the two scores)^2" if centring else "none")
    ]
    if model.pad_token:
        words.append(("Padding", f"{model.pad_token}, which ends no sequence"))
    return words + merged_setting(record, "largest_score_difference", "scores")


def held_out(record: Row) -> list[dict[str, Any]]:
    """Rows of ``name`` and ``cells`` (before, after, interval after) with what is known."""
    evaluations = RewardRecord.of(record).reward_evaluation
    before, after = evaluations.before, evaluations.after
    if not before and not after:
        return []
    shown = [
        held_out_row(
            "Accuracy: the chosen answer scores higher", before, after, "accuracy", formatting.share
        ),
        held_out_row(
            "Mean margin: chosen minus rejected score", before, after, "mean_margin", formatting.signed_loss
        ),
        held_out_row("Calibration error (ECE)", before, after, "ece", formatting.loss),
    ]
    for group, name in _GROUPS:
        halves = [mapping(mapping(part.get("by_length")).get(group)) for part in (before, after)]
        if any(halves):
            count = (halves[1] or halves[0]).get("pairs")
            pairs = "1 pair" if count == 1 else f"{formatting.count(count)} pairs"
            shown.append(held_out_row(f"{name} ({pairs})", *halves, "accuracy", formatting.share))
    shown.append(
        held_out_row(
            "Correlation of score and length",
            before,
            after,
            "score_length_correlation",
            formatting.signed_loss,
        )
    )
    if any(formatting.finite(part.get("ties")) for part in (before, after)):
        shown.append(
            held_out_row("Pairs of equal scores, counted as wrong", before, after, "ties", formatting.share)
        )
    return shown


def notes(record: Row) -> list[str]:
    """What the metrics mean and what they rest on, as sentences."""
    evaluations = RewardRecord.of(record).reward_evaluation
    found = evaluations.after or evaluations.before
    said = []
    if found:
        prompts, pairs = formatting.count(found.get("prompts")), formatting.count(found.get("pairs"))
        said.append(
            f"{pairs} pairs of answers to {prompts} held-out prompts; every prompt counts once. The interval "
            "is Wilson's for that many prompts: it says what other prompts would change, not another seed."
        )
        said.append(
            "Calibration: sigma(margin) is the probability that the chosen answer wins. The error is the "
            "mean distance between the confidence in the predicted order and the share that was right, over "
            "ten bins of equal width."
        )
    broken = formatting.finite(found.get("not_finite"))
    if broken:
        pairs = "1 pair" if broken == 1 else f"{formatting.count(broken)} pairs"
        said.append(f"The scores of {pairs} were not finite numbers.")
    reference = reference_scores(record)
    if reference:
        said.append(f"{reference} Subtract the mean and divide by the deviation for scores around 0.")
    return said


def reference_scores(record: Row) -> str:
    """Mean and deviation of the scores of known answers, as a sentence, or an empty string."""
    found = RewardRecord.of(record).reward_reference
    if formatting.finite(found.get("mean")) is None:
        return ""
    answers, source = formatting.count(found.get("answers")), str(found.get("source") or "answers")
    return (
        f"The scores of {answers} {source} have the mean {formatting.signed_loss(found['mean'])} and the "
        f"standard deviation {formatting.loss(found.get('std'))}."
    )


REPORT = ReportPart(
    view=lambda record, rows, run_dir: reward_view(record, rows),
    held_out_facts=lambda record: accuracy_fact(RewardRecord.of(record).reward_evaluation),
)
