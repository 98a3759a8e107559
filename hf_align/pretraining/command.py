"""Pre-train an encoder, an encoder-decoder model or a decoder on text, from random weights or further."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.pretraining.recipe import PretrainConfig
from hf_align.pretraining.record import PretrainRecord
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.pretraining.collators import Collator
    from hf_align.pretraining.data import StageCut
    from hf_align.pretraining.schedule import StageRate
    from hf_align.training.run import Machine, Run
    from hf_align.training.tasks import Task

logger = logging.getLogger("hf_align.pretrain")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(PretrainConfig, argv, command="pretrain", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: PretrainConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
    """
    from hf_align.pretraining.averaging import save_averaged
    from hf_align.pretraining.collators import make_collator
    from hf_align.pretraining.data import prepare_pretraining
    from hf_align.pretraining.new_model import load_pretraining_tokenizer
    from hf_align.pretraining.samples import PretrainingSamples
    from hf_align.training import stage

    if config.schedule.stages:
        steps = sum(one.steps for one in config.schedule.stages)
        config = replace(config, training=replace(config.training, max_steps=steps))
    machine = stage.begin(config.training)
    tokenizer = load_pretraining_tokenizer(config.model)
    name = config.objective_name
    collator = make_collator(name, tokenizer, seed=config.training.seed, **config.objective.objective_kwargs)
    model, copied = _model(config, tokenizer, machine)
    stages = _stages(config)
    data = prepare_pretraining(
        config.data, tokenizer, collator, name, seed=config.training.seed, stages=stages
    )
    current = stage.open_run("pretrain", config, machine, tokenizer, data, masks=False)
    with current.watched() as stop:
        if stages:
            _note_stages(current, stages)
        task = _prepare(current, model, collator, copied)
        trainer = stage.make_trainer(current, model, task, stop, schedule=_schedule(config))
        samples = PretrainingSamples(
            model,
            tokenizer,
            name,
            collator,
            data.eval,
            [source.name for source in data.eval_sources],
            config.samples,
        )
        stage.train(
            current,
            trainer,
            stop,
            samples=samples,
            save=save_averaged,
            evaluated=lambda when, evaluation: _note_sources(current, trainer, when),
        )
        stage.finish(current, _results(PretrainRecord.of(current.record.content)))
    return current.record.content


def _model(config: PretrainConfig, tokenizer: Any, machine: Machine) -> tuple[Any, int]:
    """(the model, how many of its embeddings are another model's).

    It comes before the data are prepared, so that a wrong configuration costs little time.
    """
    import transformers

    from hf_align.modeling.loading import check_vocabulary
    from hf_align.modeling.positions import check_context
    from hf_align.pretraining import new_model

    options, name = config.model, config.objective_name
    transformers.set_seed(config.training.seed)
    copied = 0
    if options.model_name_or_path is not None:
        model = new_model.load_pretrained(options, name, precision=machine.precision, use_cpu=machine.use_cpu)
    else:
        made = new_model.make_config(options, tokenizer, positions=config.longest_block)
        model = new_model.new_model(made, name, trust_remote_code=options.trust_remote_code)
        if options.embeddings_name_or_path is not None:
            copied = new_model.copy_embeddings(
                model,
                tokenizer,
                options.embeddings_name_or_path,
                trust_remote_code=options.trust_remote_code,
            )
    check_vocabulary(model, tokenizer)
    check_context(model, config.longest_block, key="block_length")
    return model, copied


def _prepare(run: Run, model: Any, collator: Collator, copied: int) -> Task:
    """Teach the model the batches of the objective, note what it is, and describe the task."""
    from hf_align.modeling.heads.selecting import install_selecting_head
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.neftune import install_neftune
    from hf_align.pretraining.collators import objective
    from hf_align.pretraining.model_size import model_facts
    from hf_align.pretraining.objectives.boundary_head import (
        install_span_boundary_head,
        load_span_boundary_head,
    )
    from hf_align.pretraining.task import pretraining_task
    from hf_align.training.build import make_ready

    config: PretrainConfig = run.config
    name, chosen = config.objective_name, objective(config.objective_name)
    facts = model_facts(model, length=config.data.block_length, objective=name)

    def install_head(model: Any) -> None:
        if chosen.examples == "pairs" or chosen.architecture == "encoder_decoder":
            install_selecting_head(model)
        elif name == "span_mlm":
            install_span_boundary_head(model)
            source = config.model.model_name_or_path
            if source is not None and not load_span_boundary_head(model, source):
                logger.info("%s: no span-boundary head is there; a new one is drawn", source)
        else:
            install_target_head(model)

    layout = make_ready(model, install_head, pack=name == "causal")
    if run.training.neftune_noise_alpha:
        install_neftune(model, run.training.neftune_noise_alpha)
    facts.name, facts.precision, facts.adapter = _name(config), run.machine.precision, "none"
    if copied:
        facts.copied_embeddings = copied
    run.record.update(PretrainRecord(model=facts))
    return pretraining_task(
        name,
        collator,
        packed=layout != "padded",
        pad_token_id=run.tokenizer.pad_token_id or 0,
        isolated=config.data.isolate_documents and config.data.packing,
    )


def _stages(config: PretrainConfig) -> list[StageCut]:
    """How each stage cuts and mixes the documents."""
    from hf_align.pretraining.data import StageCut
    from hf_align.training.arguments import world_size

    data, training = config.data, config.training
    return [
        StageCut(
            steps=stage.steps,
            block_length=stage.block_length or data.block_length,
            rows_per_step=(stage.per_device_train_batch_size or training.per_device_train_batch_size)
            * training.gradient_accumulation_steps
            * world_size(),
            weights=[stage.weights.get(dataset.path, dataset.weight) for dataset in data.datasets],
        )
        for stage in config.schedule.stages
    ]


def _schedule(config: PretrainConfig) -> Callable[[int], float] | None:
    """The learning-rate schedule over the stages, if there are any."""
    from hf_align.pretraining.schedule import stage_schedule

    rates = _rates(config)
    return stage_schedule(rates, config.training.learning_rate) if rates else None


def _rates(config: PretrainConfig) -> list[StageRate]:
    from hf_align.pretraining.schedule import StageRate

    training = config.training
    rates = []
    for number, stage in enumerate(config.schedule.stages):
        own = training.warmup_steps if number == 0 else 0.0
        rates.append(
            StageRate(
                steps=stage.steps,
                rate=stage.learning_rate or training.learning_rate,
                schedule=stage.lr_scheduler_type or training.lr_scheduler_type,
                warmup=own if stage.warmup_steps is None else stage.warmup_steps,
            )
        )
    return rates


def _name(config: PretrainConfig) -> str:
    """What the model is called where it has no name yet."""
    options = config.model
    if options.architecture is not None:
        return f"{options.architecture}-{options.model_size}"
    return str(options.model_name_or_path or f"new {options.config_name_or_path}")


def _note_stages(run: Run, stages: Sequence[StageCut]) -> None:
    """What each stage is goes into run.json."""
    known = PretrainRecord.of(run.record.content).pretraining
    known.stages = [
        {
            "steps": stage.steps,
            "rows": stage.rows_per_step,
            "block_length": stage.block_length,
            "learning_rate": rate.rate,
            "lr_scheduler_type": rate.schedule,
        }
        for stage, rate in zip(stages, _rates(run.config), strict=True)
    ]
    run.record.update(PretrainRecord(pretraining=known))


def _note_sources(run: Run, trainer: Any, when: str) -> None:
    """The metrics of each held-out data set go into run.json."""
    from hf_align.pretraining.metrics import TEXT_OBJECTIVES, metrics_by_source

    text = run.config.objective_name in TEXT_OBJECTIVES
    known = PretrainRecord.of(run.record.content).pretraining
    known.objective = run.config.objective_name
    setattr(known, when, metrics_by_source(trainer.evaluation_details, run.data.eval_sources, text=text))
    run.record.update(PretrainRecord(pretraining=known))


def _results(record: PretrainRecord) -> list[str]:
    """What came out, a line each."""
    metrics = record.final_metrics
    if "eval_loss" not in metrics:
        return []
    loss = metrics.get("eval_token_loss", metrics["eval_loss"])
    before = metrics.get("eval_token_loss_before", metrics.get("eval_loss_before"))
    lines = [
        f"held-out loss: {f'{before:.4f} -> ' if before else ''}{loss:.4f} nats a token; the unigram entropy "
        f"of the same tokens is {metrics['eval_unigram_entropy']:.4f}",
        f"held-out tokens predicted right: {metrics['eval_token_accuracy']:.1%}",
    ]
    if "eval_pair_accuracy" in metrics:
        lines.append(f"held-out pairs told apart: {metrics['eval_pair_accuracy']:.1%}")
    for source in record.pretraining.after:
        if "bits_per_character" in source:
            lines.append(f"{source['name']}: {source['bits_per_character']:.3f} bits a character")
    return lines
