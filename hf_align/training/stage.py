"""What every stage does around its own data, model and loss: launch, run folder, trainer, saving, report.

A stage's command calls these in turn: ``begin``, ``open_run``, ``make_trainer``, ``train``, ``finish``. What
this leaves out: the model that is trained (``build``), and what it is trained on and how (``tasks``
and the layers below).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.runs import checkpoints, processes, signals
from hf_align.runs import folder as run_folder
from hf_align.runs.schema import Model, Record
from hf_align.training import arguments, callbacks, resume, streaming
from hf_align.training.run import Machine, Run
from hf_align.training.saving import save_model
from hf_align.training.tasks import Task
from hf_align.training.trainer import AlignTrainer, steps_per_epoch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from hf_align.config import TrainingConfig
    from hf_align.training.samples import SampleSet

MASK_SAMPLES = 6


def begin(training: TrainingConfig) -> Machine:
    """Join the other processes, if there are any, and settle device and precision.

    Raises UserError for a tracker or an optimizer that is not installed, a precision that the device lacks, a
    number of processes that is not the one asked for, and an ``output_dir`` that the run cannot use: before
    data are prepared, which may take long.
    """
    from hf_align.modeling.precision import resolve_precision, runs_on_cpu

    arguments.check_trackers(training.report_to)
    arguments.check_optimizer_is_there(training.optim)
    use_cpu = runs_on_cpu(training.use_cpu)
    main = processes.start(use_cpu=use_cpu)
    resuming = training.resume_from_checkpoint is not None
    processes.on_main(lambda: run_folder.claim_output_dir(training.output_dir, resuming=resuming))
    return Machine(use_cpu, main, resolve_precision(training.precision, use_cpu=use_cpu))


def open_run(
    command: str,
    config: Any,
    machine: Machine,
    tokenizer: PreTrainedTokenizerBase,
    data: Any,
    *,
    masks: bool = True,
) -> Run:
    """Find the checkpoint to go on from, prepare ``output_dir`` and begin the run's record.

    ``data``: a PreparedData, or what a stage has in its place. ``masks``: whether the record shows which
    tokens of some rows are targets.

    Raises UserError where the run cannot be continued or the folder cannot be used.
    """
    from hf_align.reporting.mask_view import choose_rows, mask_sample

    training = config.training
    if machine.main:
        print(data.report.summary(), flush=True)
    # What "auto" came to on this machine, so that a run is not continued in another precision unseen.
    resolved = config.to_flat() | {"use_cpu": machine.use_cpu, "precision": machine.precision}
    identity = resume.run_identity(
        type(config), resolved, data.train_fingerprint, processes=arguments.world_size()
    )
    checkpoint = processes.on_main(lambda: resume.begin(training, identity, type(config)))
    run_folder.check_shared(training.output_dir, main=machine.main, wait=processes.wait_for_everyone)
    record = run_folder.RunRecord(
        command, config, training.output_dir, resuming=checkpoint is not None, main=machine.main
    )
    shown = choose_rows(data.train, MASK_SAMPLES) if masks else []
    samples = [mask_sample(row, tokenizer) for row in shown]
    record.update(Record(data_report=data.report.to_dict(), mask_samples=samples))
    return Run(command, config, machine, tokenizer, data, identity, checkpoint, record)


def make_trainer(
    run: Run,
    model: torch.nn.Module,
    task: Task,
    stop: signals.StopRequest,
    callbacks_: Sequence[Any] = (),
    schedule: Callable[[int], float] | None = None,
) -> AlignTrainer:
    """The trainer of a run with everything that watches it.

    ``callbacks_``: the stage's own. ``schedule``: as in :class:`AlignTrainer`.
    """
    import transformers

    training, data = run.training, run.data
    steps = None
    if not run.config.data.streaming:
        rows_per_step = arguments.rows_per_rank(training) * arguments.world_size()
        steps = steps_per_epoch(len(data.train), rows_per_step)
    args = arguments.training_arguments(
        training, precision=run.machine.precision, use_cpu=run.machine.use_cpu, steps_per_epoch=steps
    )
    rows: Any = data.train
    if run.config.data.streaming:
        rows = streaming.RankStream(data.train, rank=args.process_index, world_size=args.world_size)
    record = run.record
    watchers: list[Any] = [
        resume.RunIdentity(run.identity),
        callbacks.OptimizerMode(),
        callbacks.ProgressBar(),
        metrics := callbacks.MetricsWriter(training.output_dir, earlier_seconds=record.earlier_seconds),
        signals.SaveAndStop(stop),
        checkpoints.CheckpointKeeper(
            training.save_total_limit,
            keep_best=training.load_best_model_at_end,
            also_flush=(metrics.path,),
            saved=lambda checkpoint: record.update(Record(last_checkpoint=checkpoint.name)),
        ),
        *callbacks_,
    ]
    if training.load_best_model_at_end:
        watchers.append(callbacks.SaveBest())
    if training.early_stopping_patience is not None:
        watchers.append(callbacks.EarlyStopping(training.early_stopping_patience))
    trainer = AlignTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=data.eval or None,
        processing_class=run.tokenizer,
        callbacks=watchers,
        max_tokens_per_batch=training.max_tokens_per_batch,
        task=task,
        schedule=schedule,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    arguments.keep_outputs_precise(trainer.accelerator)
    record.update_model(Model(attention="padded" if task.padded else "segments"))
    adapter = getattr(run.config, "adapter", None)
    if adapter is not None and adapter.init_lora_weights == "eva":
        from hf_align.training.eva import begin_with_eva

        begin_with_eva(run, trainer)
    if getattr(adapter, "ladder_cache", None):
        from hf_align.training.ladder_cache import use_known_states

        use_known_states(run, trainer)
    return trainer


def train(
    run: Run,
    trainer: AlignTrainer,
    stop: signals.StopRequest,
    *,
    samples: SampleSet | None = None,
    save: Callable[[Run, AlignTrainer], None] | None = None,
    evaluated: Callable[[str, dict[str, float]], None] | None = None,
) -> None:
    """Evaluate and sample, train, save, evaluate and sample again; run.json holds the metrics.

    ``save``: how the trained model is saved, as one whole by default. ``evaluated``: called with ``before``
    or ``after`` and the metrics of that evaluation.
    """
    training, record = run.training, run.record
    metrics: dict[str, Any] = dict(record.content.final_metrics)
    # Every process takes part in each forward pass of a sharded model, also when it generates.
    sharded = bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)

    def answer(when: str) -> None:
        if samples is not None:
            samples.generate(when, seed=training.seed, main=record.main, sharded=sharded)
            record.update(samples.record())

    def before() -> None:
        if run.data.eval:
            logged = trainer.evaluate()
            metrics.update({f"{name}_before": value for name, value in logged.items() if _is_result(name)})
            if evaluated is not None:
                evaluated("before", logged)
        record.update(Record(final_metrics=metrics))
        answer("before")

    if run.checkpoint is None:
        trainer.callback_handler.callbacks.insert(0, callbacks.AtStart(before))
    else:
        resume.check_randomness(
            run.checkpoint,
            run.identity,
            trainer.model,
            noise=bool(training.neftune_noise_alpha),
            force=training.force_resume,
        )
        if samples is not None:
            samples.restore(record.content.generations)
            record.update(samples.record())
    with stop.training():
        trainer.train(resume_from_checkpoint=None if run.checkpoint is None else str(run.checkpoint))
    metrics["train_loss"] = trainer.sums.total["loss"] / max(trainer.sums.total["steps"], 1)
    metrics["steps"] = trainer.state.global_step
    if samples is not None:
        samples.set_stop_tokens()
    (save or save_model)(run, trainer)
    if run.data.eval:
        logged = trainer.last_evaluation() or trainer.evaluate()
        metrics |= logged
        if evaluated is not None:
            evaluated("after", logged)
    answer("after")
    record.update(
        Record(
            status="completed",
            final_metrics=metrics,
            tokens_per_second=trainer.sums.total["tokens"] / max(trainer.sums.total["seconds"], 1e-9),
            peak_memory_bytes=trainer.peak_memory_bytes(),
            data_report=run.data.report.to_dict(),
        )
    )


def finish(run: Run, results: Sequence[str]) -> None:
    """Write the report and the model card, and print ``results``, a line each, on the main process."""
    if not run.machine.main:
        return
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    output_dir = run.training.output_dir
    report = write_report(output_dir)
    write_model_card(output_dir)
    for line in results:
        print(line)
    speed = run.record.content.tokens_per_second or 0.0
    print(f"{speed:,.0f} tokens/s; model in {output_dir}; report: {report}")


def _is_result(name: str) -> bool:
    """Whether a metric of an evaluation can change: not counts, which are those of the data."""
    return name not in ("eval_target_tokens", "eval_prompts", "eval_rows", "eval_desirable", "epoch")
