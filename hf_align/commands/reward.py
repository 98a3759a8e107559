"""Train a reward model, which scores answers, on answers that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import RewardConfig, load_config

if TYPE_CHECKING:
    from hf_align.training.stage import Run
    from hf_align.training.tasks import Task
    from hf_align.training.trainer import AlignTrainer

REFERENCE_ROWS = 2048
"""Training rows whose answers are scored for the mean and the deviation, where no rows are held out."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(RewardConfig, argv, command="reward", description=__doc__ or "")
    return run(config)


def run(config: RewardConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for whatever the user can mend; a run that is cut short is marked in run.json.
    """
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.training import stage

    machine = stage.begin(config.training)
    tokenizer = load_tokenizer(config.model)
    data = prepare_datasets(config.data, tokenizer, seed=config.training.seed, comparisons=True)
    current = stage.open_run("reward", config, machine, tokenizer, data)
    with current.watched() as stop:
        model, task = _build(current)
        trainer = stage.make_trainer(current, model, task, stop)
        stage.train(current, trainer, stop, save=_save, evaluated=partial(_note, current, trainer))
        _store_reference(current, trainer)
        stage.finish(current, _results(current.record.content))
    return current.record.content


def _build(run: Run) -> tuple[Any, Task]:
    """The model with what is trained on it, and the task."""
    from hf_align.evaluation.calibration import headline
    from hf_align.modeling.dropout import disable_dropout
    from hf_align.modeling.reward_head import install_reward_head
    from hf_align.modeling.reward_model import load_reward_base
    from hf_align.objectives.reward import reward
    from hf_align.training import launch, tasks, trained_head, trained_model

    config: RewardConfig = run.config
    base = trained_model.load_base(run, load_reward_base, head_init=config.reward.head_init)
    pad_token_id = trained_head.ready_for_rows(run, base)
    if config.comparison.disable_dropout:
        disable_dropout(base)
    packed = trained_head.packs(run, base)
    shared = packed and config.comparison.share_prefix and launch.shares_prefixes(base)
    install_reward_head(base)
    model = trained_head.adapted_with_head(run, base)
    details = {"shared_prefixes": shared, "pad_token": run.tokenizer.pad_token}
    run.record.update(model=run.record.content["model"] | details)
    return model, tasks.comparison_task(
        partial(reward, centering=config.reward.center_rewards_coefficient),
        packed=packed,
        share_prefix=shared,
        pad_token_id=pad_token_id,
        eval_metrics=lambda *given: tasks.comparison_metrics(*given) | headline(given[-1]),
    )


def _note(run: Run, trainer: AlignTrainer, when: str, figures: dict[str, float]) -> None:
    """Everything an evaluation has found, ``before`` or ``after``, for the report."""
    from hf_align.evaluation.calibration import distribution, reward_evaluation

    found = trainer.evaluation_details
    evaluation = reward_evaluation(
        found["margins"],
        found["pair_weights"],
        found["length_differences"],
        scores=found["scores"],
        lengths=found["lengths"],
    )
    evaluation["scores"] = distribution(found["chosen"], found["rejected"], found["pair_weights"])
    run.record.update(
        reward_evaluation={**(run.record.content.get("reward_evaluation") or {}), when: evaluation}
    )


def _save(run: Run, trainer: AlignTrainer) -> None:
    """The trained model in the run folder: as it is, or the adapter merged into its base and beside it."""
    from hf_align.modeling.reward_saving import save_merged
    from hf_align.training.merged_saving import save_with_adapter
    from hf_align.training.trained_head import checked_rows

    def merge(folder: Path, adapter: Path) -> float:
        rows = checked_rows(run)
        return save_merged(
            folder, adapter, run.config.model, run.tokenizer, rows, precision=run.machine.precision
        )

    save_with_adapter(run, trainer, merge, figure="largest_score_difference")


def _store_reference(run: Run, trainer: AlignTrainer) -> None:
    """Mean and deviation of the scores of known answers, in run.json and beside the saved model."""
    from hf_align.evaluation.calibration import mean_and_deviation
    from hf_align.modeling.reward_scoring import write_reference
    from hf_align.reporting.mask_view import spread

    source = "held-out answers"
    if not run.data.eval:
        if run.config.data.streaming:
            return
        source = "training answers"
        trainer.evaluate(spread(run.data.train, REFERENCE_ROWS), metric_key_prefix="reference")
    scores = trainer.evaluation_details["scores"]
    reference = {**mean_and_deviation(scores), "answers": len(scores), "source": source}
    run.record.update(reward_reference=reference)
    if run.machine.main:
        write_reference(run.training.output_dir, reference)


def _results(record: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    evaluations = record.get("reward_evaluation") or {}
    after, before = evaluations.get("after"), evaluations.get("before")
    lines = []
    if after:
        low, high = after["accuracy_interval"]
        earlier = f"{before['accuracy']:.1%} -> " if before else ""
        lines.append(
            f"held-out accuracy: {earlier}{after['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
            f"mean margin {after['mean_margin']:.2f}, calibration error {after['ece']:.3f}"
        )
    reference = record.get("reward_reference")
    if reference:
        lines.append(
            f"scores of {reference['answers']} {reference['source']}: mean {reference['mean']:.3f}, "
            f"standard deviation {reference['std']:.3f}"
        )
    return lines
