"""Align a language model with compared answers directly: DPO, IPO and every other pairwise loss."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.preference.recipe import DpoConfig
from hf_align.preference.record import DpoRecord, Reference
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.preference.start_check import StartCheck
    from hf_align.training.build import Layout
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task

logger = logging.getLogger("hf_align.dpo")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(DpoConfig, argv, command="dpo", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: DpoConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
    """
    from hf_align.data import best_answer_example, prepare_datasets
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.preference.likelihood_displacement import LikelihoodDisplacement
    from hf_align.preference.metrics import preference_evaluation
    from hf_align.training import stage
    from hf_align.training.samples import SampleSet

    machine = stage.begin(config.training)
    _warn_of_the_recipe(config)
    tokenizer = load_tokenizer(config.model)
    data = prepare_datasets(config.data, tokenizer, seed=config.training.seed, comparisons=True)
    current = stage.open_run("dpo", config, machine, tokenizer, data)
    with current.watched() as stop:
        current, model, task, check = _build(current)
        summary = DpoRecord.of(current.record.content).preference_summary
        displacement = LikelihoodDisplacement(
            config.preference.chosen_fall_warning, earlier=summary.chosen_fall
        )
        trainer = stage.make_trainer(current, model, task, stop, [displacement])

        def note() -> None:
            summary.chosen_fall = displacement.record
            current.record.update(DpoRecord(preference_summary=summary))

        def evaluated(when: str, evaluation: dict[str, float]) -> None:
            setattr(summary, when, preference_evaluation(evaluation, trainer.evaluation_details))
            note()
            if when == "before":
                check.evaluation(evaluation)

        examples = [best_answer_example(comparison) for comparison in data.eval_examples]
        samples = SampleSet(trainer.model, tokenizer, examples, config.samples)
        stage.train(current, trainer, stop, samples=samples, evaluated=evaluated)
        note()
        stage.finish(current, _results(DpoRecord.of(current.record.content)))
    return current.record.content


def _warn_of_the_recipe(config: DpoConfig) -> None:
    """Say what is probably not meant, though it can be computed."""
    preference = config.preference
    if "orpo" in preference.loss and not preference.sft_weight:
        logger.warning(
            "loss: orpo without sft_weight is the odds-ratio term alone; ORPO adds it to the likelihood loss "
            "of the chosen answer. Set sft_weight: 1 for the method of the paper."
        )
    if "robust" in preference.loss and not preference.label_smoothing:
        logger.warning(
            "loss: robust with label_smoothing 0 is dpo; give the share of pairs that are in the wrong order."
        )


def _build(run: Run) -> tuple[Run, Any, Task, StartCheck]:
    """The run with rows that have their reference, what is trained, the task, and the check of its start."""
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.preference import reference_models
    from hf_align.preference.objective import PreferenceObjective, loss_terms
    from hf_align.training import tasks
    from hf_align.training.build import build_model

    config: DpoConfig = run.config
    preference = config.preference
    name, other = config.model.model_name_or_path, preference.ref_model_name_or_path
    if config.reference == "precomputed" and other is not None:
        run = reference_models.referenced_by_another(run)

    def compute_reference(base: Any, layout: Layout) -> None:
        nonlocal run
        if config.reference == "precomputed" and other is None:
            # Also where a checkpoint is about to be loaded over it: training began with these weights.
            run = reference_models.referenced(run, base, layout, name=name)
        elif config.reference != "precomputed":
            run.record.update(DpoRecord(reference=_without_a_pass(config)))

    built = build_model(
        run,
        load_model,
        install_target_head,
        share=config.comparison.share_prefix,
        dropout=not config.comparison.disable_dropout,
        before_training=compute_reference,
    )
    objective = PreferenceObjective(
        loss_terms(preference.loss, preference.loss_weights, config.to_flat()),
        beta=preference.beta,
        sft_weight=preference.sft_weight,
        reference_free=preference.reference_free,
        ld_alpha=preference.ld_alpha,
        use_weighting=preference.use_weighting,
    )
    check = _start_check(run, objective, built.model)
    task = tasks.comparison_task(
        objective,
        packed=built.packed,
        share_prefix=built.shared,
        pad_token_id=run.tokenizer.pad_token_id,
        check_first_step=check.first_step,
        survey=objective.survey if objective.needs_the_step else None,
        inform=lambda batch, among: dataclasses.replace(batch, among=among),
    )
    return run, built.model, task, check


def _without_a_pass(config: DpoConfig) -> Reference:
    """What run.json says of a reference that is not run beforehand."""
    if config.reference == "adapter off":
        return Reference(kind="adapter switched off", model=config.model.model_name_or_path)
    return Reference(kind="none", model=None)


def _start_check(run: Run, objective: Any, model: Any) -> StartCheck:
    """The check that the model begins as its own reference; run.json says what it found."""
    from hf_align.preference.objective import loss_at_start
    from hf_align.preference.start_check import StartCheck, noise_of, reasons_against

    preference = run.config.preference
    constant = None if preference.use_weighting else loss_at_start(objective.terms)
    reasons = reasons_against(
        losses=preference.loss,
        constant=constant,
        reference_free=preference.reference_free,
        ref_model=preference.ref_model_name_or_path,
        weighted=preference.use_weighting,
    )
    earlier = None
    if run.checkpoint is not None:
        reasons.append("the run is resumed, and its model is no longer the reference")
        earlier = DpoRecord.of(run.record.content).start_check
    # LLM.int8() rounds activations by what else is in the batch, whatever the precision around it.
    precision = "fp16" if run.config.model.load_in_8bit else run.machine.precision
    return StartCheck(
        constant,
        precision,
        reasons,
        noise_of(model),
        saved=lambda record: run.record.update(DpoRecord(start_check=earlier or record)),
    )


def _results(record: DpoRecord) -> list[str]:
    """What came out, a line each."""
    lines = []
    metrics = record.final_metrics
    if "eval_loss" in metrics:
        before = metrics.get("eval_loss_before")
        lines.append(f"held-out loss: {f'{before:.4f} -> ' if before else ''}{metrics['eval_loss']:.4f}")
    before, after = record.preference_summary.before, record.preference_summary.after
    if "accuracy" in after:
        low, high = after["accuracy_interval"]
        lines.append(
            f"held-out pairs with the higher reward on the chosen answer: {after['accuracy']:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%}), mean margin {after['margin']:+.3f}"
        )
        earlier = f"{before['likelihood_accuracy']:.1%} -> " if "likelihood_accuracy" in before else ""
        lines.append(
            f"held-out pairs whose chosen answer is likelier per token: {earlier}"
            f"{after['likelihood_accuracy']:.1%}"
        )
    if "logps/chosen_change" in after:
        change = after["logps/chosen_change"]
        lines.append(f"log-probability of the chosen held-out answers: {change:+.3f} nats per token")
    return lines
