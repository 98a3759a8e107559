"""Train a reward model, which scores answers, on answers that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.reward_model.recipe import RewardConfig
from hf_align.runs.lock import releases_folders
from hf_align.saved_models.reward_record import RewardedModel, RewardRecord

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task
    from hf_align.training.trainer import AlignTrainer

REFERENCE_ROWS = 2048
"""Training rows whose answers are scored for the mean and the deviation, where no rows are held out."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(RewardConfig, argv, command="reward", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: RewardConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
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
        stage.finish(current, _results(RewardRecord.of(current.record.content)))
    return current.record.content


def _build(run: Run) -> tuple[Any, Task]:
    """The model with what is trained on it, and the task."""
    from hf_align.modeling.heads.reward import install_reward_head, reads_last_token
    from hf_align.modeling.reward_model import load_reward_base
    from hf_align.reward_model.objective import reward
    from hf_align.statistics.calibration import headline
    from hf_align.training import build, tasks

    config: RewardConfig = run.config
    built = build.build_model(
        run,
        load_reward_base,
        install_reward_head,
        check=build.ready_for_rows,
        pack=reads_last_token,
        share=config.comparison.share_prefix,
        dropout=not config.comparison.disable_dropout,
        apply=build.with_trained_head,
        head_init=config.reward.head_init,
    )
    facts = RewardedModel(shared_prefixes=built.shared, pad_token=run.tokenizer.pad_token)
    run.record.update_model(facts)
    return built.model, tasks.comparison_task(
        partial(reward, centering=config.reward.center_rewards_coefficient),
        packed=built.packed,
        share_prefix=built.shared,
        pad_token_id=run.tokenizer.pad_token_id,
        eval_metrics=lambda *given: tasks.comparison_metrics(*given) | headline(given[-1]),
    )


def _note(run: Run, trainer: AlignTrainer, when: str, metrics: dict[str, float]) -> None:
    """Everything an evaluation has found, ``before`` or ``after``, for the report."""
    from hf_align.statistics.calibration import distribution, reward_evaluation

    found = trainer.evaluation_details
    evaluation = reward_evaluation(
        found["margins"],
        found["pair_weights"],
        found["length_differences"],
        scores=found["scores"],
        lengths=found["lengths"],
    )
    evaluation["scores"] = distribution(found["chosen"], found["rejected"], found["pair_weights"])
    known = RewardRecord.of(run.record.content).reward_evaluation
    run.record.update(RewardRecord(reward_evaluation={**known, when: evaluation}))


def _save(run: Run, trainer: AlignTrainer) -> None:
    """The trained model in the run folder: as it is, or the adapter merged into its base and beside it."""
    from hf_align.reward_model.saving import save_merged
    from hf_align.training.saving import checked_rows, save_with_adapter

    def merge(folder: Path, adapter: Path) -> float:
        rows = checked_rows(run)
        return save_merged(
            folder, adapter, run.config.model, run.tokenizer, rows, precision=run.machine.precision
        )

    save_with_adapter(run, trainer, merge, metric="largest_score_difference")


def _store_reference(run: Run, trainer: AlignTrainer) -> None:
    """Mean and deviation of the scores of known answers, in run.json and beside the saved model."""
    from hf_align.reporting.mask_view import spread
    from hf_align.saved_models.reward_scoring import write_reference
    from hf_align.statistics.calibration import mean_and_deviation

    source = "held-out answers"
    if not run.data.eval:
        if run.config.data.streaming:
            return
        source = "training answers"
        trainer.evaluate(spread(run.data.train, REFERENCE_ROWS), metric_key_prefix="reference")
    scores = trainer.evaluation_details["scores"]
    reference = {**mean_and_deviation(scores), "answers": len(scores), "source": source}
    run.record.update(RewardRecord(reward_reference=reference))
    if run.machine.main:
        write_reference(run.training.output_dir, reference)


def _results(record: RewardRecord) -> list[str]:
    """What came out, a line each."""
    after, before = record.reward_evaluation.after, record.reward_evaluation.before
    lines = []
    if after:
        low, high = after["accuracy_interval"]
        earlier = f"{before['accuracy']:.1%} -> " if before else ""
        lines.append(
            f"held-out accuracy: {earlier}{after['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
            f"mean margin {after['mean_margin']:.2f}, calibration error {after['ece']:.3f}"
        )
    reference = record.reward_reference
    if reference:
        lines.append(
            f"scores of {reference['answers']} {reference['source']}: mean {reference['mean']:.3f}, "
            f"standard deviation {reference['std']:.3f}"
        )
    return lines
