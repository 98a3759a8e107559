"""Align a language model with single answers that are labelled as desirable or not (KTO)."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.kto.recipe import KtoConfig
from hf_align.kto.record import KtoRecord, Labels
from hf_align.preference.record import Reference
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.kto.rows import KtoRows
    from hf_align.preference.start_check import StartCheck
    from hf_align.training.build import Layout
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task

logger = logging.getLogger("hf_align.kto")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(KtoConfig, argv, command="kto", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: KtoConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for whatever the user can mend; a run that is cut short is marked in run.json.
    """
    from hf_align.data.unpaired import labelled_example, prepare_unpaired
    from hf_align.kto.metrics import kto_evaluation
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.training import stage
    from hf_align.training.samples import SampleSet

    machine = stage.begin(config.training)
    tokenizer = load_tokenizer(config.model)
    data = prepare_unpaired(config.data, tokenizer, seed=config.training.seed)
    current = stage.open_run("kto", config, machine, tokenizer, data)
    _count_labels(current)
    with current.watched() as stop:
        current, model, task, check = _build(current)
        trainer = stage.make_trainer(current, model, task, stop)
        summary = KtoRecord.of(current.record.content).kto_summary

        def evaluated(when: str, evaluation: dict[str, float]) -> None:
            setattr(summary, when, kto_evaluation(evaluation, trainer.evaluation_details))
            current.record.update(KtoRecord(kto_summary=summary))
            if when == "before":
                check.evaluation(evaluation)

        # Those are the answers that the model should give.
        liked = [labelled_example(one) for one in data.eval_examples if one.desirable]
        samples = SampleSet(trainer.model, tokenizer, liked, config.samples)
        stage.train(current, trainer, stop, samples=samples, evaluated=evaluated)
        stage.finish(current, _results(KtoRecord.of(current.record.content)))
    return current.record.content


def _count_labels(run: Run) -> None:
    """Print and record how many rows have each label; say where weights or batch do not suit the method."""
    from hf_align.data.unpaired import label_counts
    from hf_align.kto.metrics import labels
    from hf_align.training.arguments import world_size

    preference = run.config.preference
    found = labels(
        *label_counts(run.data.train),
        desirable_weight=preference.desirable_weight,
        undesirable_weight=preference.undesirable_weight,
    )
    run.record.update(KtoRecord(labels=found))
    if run.machine.main:
        print(labels_line(found), flush=True)
    if preference.loss_type == "kto" and _rows_per_step(run) == 1:
        logger.warning(
            "one row makes an optimizer step, so that no prompt meets the answer of another row, and the KL "
            "estimate is 0: set per_device_train_batch_size or gradient_accumulation_steps (now %d and %d on "
            "%d processes) so that a step has more rows.",
            run.training.per_device_train_batch_size,
            run.training.gradient_accumulation_steps,
            world_size(),
        )


def labels_line(found: Labels) -> str:
    """The counts of both labels and the advised weights, in words."""
    from hf_align.kto.metrics import HIGH, LOW, balanced

    counts = f"labels: {found.desirable:,} desirable and {found.undesirable:,} undesirable training rows"
    if found.ratio is None:
        return f"{counts}; only one label counts, and KTO weighs both against each other"
    ratio = f"{counts}; weighted, desirable to undesirable is {found.ratio:.3g}"
    if balanced(found):
        return f"{ratio}, within the advised {LOW:g} to {HIGH:.3g}"
    one, other = (
        f"{low:.3g} to {high:.3g}" for low, high in (found.desirable_weights, found.undesirable_weights)
    )
    return (
        f"{ratio}, outside the advised {LOW:g} to {HIGH:.3g}: take desirable_weight {one}, or "
        f"undesirable_weight {other}"
    )


def _rows_per_step(run: Run) -> int:
    from hf_align.training.arguments import rows_per_rank, world_size

    return rows_per_rank(run.training) * world_size()


def _ordered(run: Run) -> tuple[KtoRows, KtoRows]:
    """Training and held-out rows in the order of their steps; the held-out rows are one step."""
    from hf_align.kto.rows import KtoRows, Mismatched, StepOrder
    from hf_align.training.trainer import steps_per_epoch

    training = run.training

    def ordered(rows: Any, rows_per_step: int, epochs: int) -> KtoRows:
        order = StepOrder(len(rows), max(1, rows_per_step), training.seed)
        others = Mismatched(rows, order, epochs, run.config.data.max_length)
        return KtoRows(rows, order, others if run.config.preference.loss_type == "kto" else None)

    per_epoch = steps_per_epoch(len(run.data.train), _rows_per_step(run))
    epochs = training.max_steps / per_epoch if training.max_steps > 0 else training.num_train_epochs
    held_out = run.data.eval
    return (
        ordered(run.data.train, _rows_per_step(run), math.ceil(epochs)),
        ordered(held_out, len(held_out), 1),
    )


def _referenced(run: Run, sets: Sequence[KtoRows], model: Any, layout: Layout, name: str) -> list[KtoRows]:
    """The same with the log-probabilities of ``model`` for every answer, mismatched ones included."""
    from hf_align.preference.reference_models import reference_rows

    parts: list[Any] = [one.rows for one in sets]
    parts += [one.mismatched for one in sets if one.mismatched is not None]
    keep = run.config.preference.reference_cache
    found = reference_rows(run, model, layout, parts, name=name, keep=keep)
    others = found[len(sets) :] or [None] * len(sets)
    return [
        dataclasses.replace(one, rows=rows, mismatched=mismatched)
        for one, rows, mismatched in zip(sets, found, others, strict=False)
    ]


def _build(run: Run) -> tuple[Run, Any, Task, StartCheck]:
    """The run with rows in steps, what is trained, the task, and the check of its start."""
    from hf_align.kto.objective import KtoObjective, kto_task
    from hf_align.losses import UNPAIRED_LOSSES
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.preference.reference_models import by_another
    from hf_align.training.build import build_model

    config: KtoConfig = run.config
    preference = config.preference
    name, other = config.model.model_name_or_path, preference.ref_model_name_or_path
    sets: Sequence[KtoRows] = _ordered(run)
    if other is not None:
        sets = by_another(run, other, lambda model, layout: _referenced(run, sets, model, layout, other))

    def compute_reference(base: Any, layout: Layout) -> None:
        nonlocal sets
        if config.reference == "precomputed" and other is None:
            # Also where a checkpoint is about to be loaded over it: training began with these weights.
            sets = _referenced(run, sets, base, layout, name)
        elif config.reference != "precomputed":
            reference = Reference(kind="adapter switched off", model=name)
            run.record.update(KtoRecord(reference=reference))

    built = build_model(
        run,
        load_model,
        install_target_head,
        dropout=not preference.disable_dropout,
        before_training=compute_reference,
    )
    objective = KtoObjective(
        UNPAIRED_LOSSES[preference.loss_type],
        beta=preference.beta,
        desirable_weight=preference.desirable_weight,
        undesirable_weight=preference.undesirable_weight,
    )
    check = _start_check(run, built.model)
    task = kto_task(
        objective,
        packed=built.packed,
        pad_token_id=run.tokenizer.pad_token_id,
        check_first_step=check.first_step,
    )
    train, evaluation = sets
    data = dataclasses.replace(run.data, train=train, eval=evaluation)
    return dataclasses.replace(run, data=data), built.model, task, check


def _start_check(run: Run, model: Any) -> StartCheck:
    """The check that the model begins as its own reference; run.json says what it found."""
    from hf_align.losses import UNPAIRED_LOSSES
    from hf_align.preference.start_check import StartCheck, noise_of, reasons_against

    preference = run.config.preference
    constant = UNPAIRED_LOSSES[preference.loss_type].at_start
    reasons = reasons_against(
        losses=[preference.loss_type],
        constant=constant,
        reference_free=False,
        ref_model=preference.ref_model_name_or_path,
    )
    earlier = None
    if run.checkpoint is not None:
        reasons.append("the run is resumed, and its model is no longer the reference")
        earlier = KtoRecord.of(run.record.content).start_check
    return StartCheck(
        constant,
        # LLM.int8() rounds activations by what else is in the batch, whatever the precision around it.
        "fp16" if run.config.model.load_in_8bit else run.machine.precision,
        reasons,
        noise_of(model),
        saved=lambda record: run.record.update(KtoRecord(start_check=earlier or record)),
        metric="unweighted_loss",
    )


def _results(record: KtoRecord) -> list[str]:
    """What came out, a line each."""
    lines = []
    metrics, after = record.final_metrics, record.kto_summary.after
    if "eval_loss" in metrics:
        before = metrics.get("eval_loss_before")
        lines.append(f"held-out loss: {f'{before:.4f} -> ' if before else ''}{metrics['eval_loss']:.4f}")
    if "auc" in after:
        low, high = after["auc_interval"]
        lines.append(
            f"held-out rewards: desirable {after['desirable_reward']:+.3f}, undesirable "
            f"{after['undesirable_reward']:+.3f}; a desirable answer has the higher one in "
            f"{after['auc']:.1%} of all pairs (95 % interval {low:.1%} to {high:.1%})"
        )
    if "kl" in after:
        lines.append(f"KL estimate on mismatched held-out pairs: {after['kl']:.3f} nats")
    return lines
