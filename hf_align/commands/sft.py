"""Fine-tune a causal language model on instructions, with the loss on the answers only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import SftConfig, load_config

if TYPE_CHECKING:
    from hf_align.data.prepare import PreparedData
    from hf_align.modeling.precision import Precision
    from hf_align.training.trainer import AlignTrainer

logger = logging.getLogger("hf_align.sft")

MASK_SAMPLES = 6


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(SftConfig, argv, command="sft", description=__doc__ or "")
    return run(config)


def run(config: SftConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for whatever the user can mend; a run that is cut short is marked in run.json.
    """
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.precision import resolve_precision, runs_on_cpu
    from hf_align.reporting.mask_view import choose_rows, mask_sample
    from hf_align.training import arguments, launch, resume, run_folder, signals

    training = config.training
    arguments.check_trackers(training.report_to)
    use_cpu = runs_on_cpu(training.use_cpu)
    is_main = launch.start(use_cpu=use_cpu)
    precision = resolve_precision(training.precision, use_cpu=use_cpu)
    tokenizer = load_tokenizer(config.model)
    data = prepare_datasets(config.data, tokenizer, seed=training.seed)
    if is_main:
        print(data.report.summary(), flush=True)

    # What "auto" came to on this machine, so that a run is not continued in another precision unseen.
    resolved = config.to_flat() | {"use_cpu": use_cpu, "precision": precision}
    identity = resume.run_identity(resolved, data.train_fingerprint, processes=arguments.world_size())
    checkpoint = launch.on_main(lambda: resume.begin(training, identity))
    run_folder.check_shared(training.output_dir, main=is_main, wait=launch.wait_for_everyone)
    record = run_folder.RunRecord(
        "sft", config, training.output_dir, resuming=checkpoint is not None, main=is_main
    )
    shown = choose_rows(data.train, MASK_SAMPLES)
    record.update(
        data_report=data.report.to_dict(), mask_samples=[mask_sample(row, tokenizer) for row in shown]
    )
    with (
        signals.StopRequest(main=is_main) as stop,
        run_folder.marked_if_cut_short(record, launch.command_to_resume("sft", config)),
    ):
        trainer, facts = _build(config, tokenizer, data, precision, use_cpu, identity, record, stop)
        record.update(model=facts)
        _train(config, trainer, tokenizer, data, record, checkpoint, identity, stop)
        if is_main:
            _finish(training.output_dir, record)
    return record.content


def _build(
    config: SftConfig,
    tokenizer: Any,
    data: PreparedData,
    precision: Precision,
    use_cpu: bool,
    identity: dict[str, Any],
    record: Any,
    stop: Any,
) -> tuple[AlignTrainer, dict[str, Any]]:
    """The trainer, and what run.json says of the model."""
    from functools import partial

    import transformers

    from hf_align.adapters.factory import apply_adapter, count_parameters
    from hf_align.data.packing import pack_rows, pad_rows
    from hf_align.modeling.loading import check_context, check_vocabulary, load_model
    from hf_align.modeling.neftune import install_neftune
    from hf_align.modeling.target_head import install_target_head
    from hf_align.objectives.causal_lm import causal_lm
    from hf_align.training import (
        arguments,
        callbacks,
        checkpoints,
        launch,
        resume,
        signals,
        streaming,
        trainer,
    )

    training = config.training
    # New adapter weights are drawn from the global generator.
    transformers.set_seed(training.seed)
    base = load_model(
        config.model,
        trainable_base=config.adapter.adapter == "none",
        precision=precision,
        use_cpu=use_cpu,
    )
    check_vocabulary(base, tokenizer)
    # The rows of a stream are not known yet; its max_length bounds them.
    lengths = {} if config.data.streaming else data.report.to_dict()["total"]["lengths"]
    check_context(base, min(config.data.max_length, lengths.get("max", config.data.max_length)))
    packed = config.data.packing and launch.enable_segment_attention(base)
    install_target_head(base)
    if training.neftune_noise_alpha:
        install_neftune(base, training.neftune_noise_alpha)
    model = apply_adapter(base, config.adapter)
    total, trainable = count_parameters(model)
    logger.info(
        "%s: %s parameters, %s trained", config.model.model_name_or_path, f"{total:,}", f"{trainable:,}"
    )

    steps = None
    if not config.data.streaming:
        rows_per_step = arguments.rows_per_rank(training) * arguments.world_size()
        steps = trainer.steps_per_epoch(len(data.train), rows_per_step)
    args = arguments.training_arguments(training, precision=precision, use_cpu=use_cpu, steps_per_epoch=steps)
    rows: Any = data.train
    if config.data.streaming:
        rows = streaming.RankStream(data.train, rank=args.process_index, world_size=args.world_size)
    watchers: list[Any] = [
        resume.RunIdentity(identity),
        callbacks.ProgressBar(),
        metrics := callbacks.MetricsWriter(training.output_dir, earlier_seconds=record.earlier_seconds),
        signals.SaveAndStop(stop),
        checkpoints.CheckpointKeeper(
            training.save_total_limit,
            keep_best=training.load_best_model_at_end,
            also_flush=(metrics.path,),
            saved=lambda checkpoint: record.update(last_checkpoint=checkpoint.name),
        ),
    ]
    if training.early_stopping_patience is not None:
        watchers.append(callbacks.EarlyStopping(training.early_stopping_patience))
    result = trainer.AlignTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=data.eval or None,
        processing_class=tokenizer,
        callbacks=watchers,
        max_tokens_per_batch=training.max_tokens_per_batch,
        task=trainer.Task(
            collate=pack_rows if packed else partial(pad_rows, pad_token_id=tokenizer.pad_token_id),
            objective=causal_lm,
            units=trainer.target_units,
            padded=not packed,
        ),
    )
    result.remove_callback(transformers.PrinterCallback)
    return result, {
        "name": config.model.model_name_or_path,
        "class": type(base).__name__,
        "parameters": total,
        "trainable_parameters": trainable,
        "precision": precision,
        "attention": "segments" if packed else "padded",
        "adapter": config.adapter.adapter,
    }


def _train(
    config: SftConfig,
    trainer: AlignTrainer,
    tokenizer: Any,
    data: PreparedData,
    record: Any,
    checkpoint: Any,
    identity: dict[str, Any],
    stop: Any,
) -> None:
    """Evaluate and sample, train, save, evaluate and sample again."""
    from hf_align.training import callbacks, resume
    from hf_align.training.samples import SampleSet

    training = config.training
    metrics: dict[str, Any] = dict(record.content.get("final_metrics") or {})
    samples = SampleSet(trainer.model, tokenizer, data.eval_examples, config.samples)
    # Every process takes part in each forward pass of a sharded model, also when it generates.
    answers_here = record.main or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled

    def before() -> None:
        if data.eval:
            metrics["eval_loss_before"] = trainer.evaluate()["eval_loss"]
        record.update(final_metrics=metrics)
        samples.generate("before", seed=training.seed, main=answers_here)
        record.update(**samples.record())

    if checkpoint is None:
        trainer.callback_handler.callbacks.insert(0, callbacks.AtStart(before))
    else:
        resume.check_randomness(
            checkpoint,
            identity,
            trainer.model,
            noise=bool(training.neftune_noise_alpha),
            force=training.force_resume,
        )
        samples.restore(record.content.get("generations") or [])
        record.update(**samples.record())
    with stop.training():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    metrics["train_loss"] = trainer.sums.total["loss"] / max(trainer.sums.total["steps"], 1)
    metrics["steps"] = trainer.state.global_step
    samples.set_stop_tokens()
    _save(trainer, training.output_dir, record)
    if data.eval:
        metrics |= trainer.last_evaluation() or trainer.evaluate()
    samples.generate("after", seed=training.seed, main=answers_here)
    record.update(
        status="completed",
        final_metrics=metrics,
        tokens_per_second=trainer.sums.total["tokens"] / max(trainer.sums.total["seconds"], 1e-9),
        peak_memory_bytes=trainer.peak_memory_bytes(),
        data_report=data.report.to_dict(),
        **samples.record(),
    )


def _save(trainer: AlignTrainer, output_dir: str, record: Any) -> None:
    """Save the trained model as one whole, also where its checkpoints are sharded."""
    # Trainer switches the cache off for training; whoever loads the model generates with it.
    trainer.model.config.use_cache = True
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model()
    if record.main:
        # A pickle, and nothing in it that run.json does not say.
        Path(output_dir, "training_args.bin").unlink(missing_ok=True)


def _finish(output_dir: str, record: Any) -> None:
    """Write the report and the model card, and say what came out."""
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    report = write_report(output_dir)
    write_model_card(output_dir)
    metrics = record.content["final_metrics"]
    if "eval_loss" in metrics:
        before = metrics.get("eval_loss_before")
        print(f"held-out loss: {f'{before:.4f} -> ' if before else ''}{metrics['eval_loss']:.4f}")
    match = record.content.get("sample_exact_match") or {}
    if "after" in match:
        print(f"held-out samples answered exactly: {match.get('before', 0):.0%} -> {match['after']:.0%}")
    print(f"{record.content['tokens_per_second']:,.0f} tokens/s; model in {output_dir}; report: {report}")
