"""Fine-tune a language model on instructions, with the loss on the answers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.runs.lock import releases_folders
from hf_align.runs.schema import Model, Record
from hf_align.sft.recipe import SftConfig

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task
    from hf_align.types.tokens import Extension


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(SftConfig, argv, command="sft", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: SftConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
    """
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer, read_settings
    from hf_align.modeling.new_special_tokens import add_special_tokens
    from hf_align.training import stage
    from hf_align.training.samples import SampleSet

    machine = stage.begin(config.training)
    tokenizer = load_tokenizer(config.model)
    extension = add_special_tokens(tokenizer, config.tokens.additional_special_tokens)
    seq2seq = bool(read_settings(config.model).is_encoder_decoder)
    data = prepare_datasets(
        config.data, tokenizer, seed=config.training.seed, seq2seq=seq2seq, weighted=not seq2seq
    )
    current = stage.open_run("sft", config, machine, tokenizer, data)
    with current.watched() as stop:
        model, task = (_build_seq2seq if seq2seq else _build)(current, extension)
        trainer = stage.make_trainer(current, model, task, stop)
        samples = SampleSet(trainer.model, tokenizer, data.eval_examples, config.samples)
        stage.train(current, trainer, stop, samples=samples)
        stage.finish(current, _results(current.record.content))
    return current.record.content


def _build(run: Run, extension: Extension) -> tuple[Any, Task]:
    """The model with what is trained on it, and the task."""
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.training import tasks
    from hf_align.training.build import build_model

    load, apply = _with_new_rows(load_model, extension)
    built = build_model(run, load, install_target_head, apply=apply)
    _check_new_rows(built.base, run, extension)
    task = tasks.language_model_task(packed=built.packed, pad_token_id=run.tokenizer.pad_token_id)
    return built.model, task


def _build_seq2seq(run: Run, extension: Extension) -> tuple[Any, Task]:
    """The same for an encoder-decoder model: text in, text out."""
    from hf_align.errors import UserError
    from hf_align.modeling.heads.selecting import install_selecting_head
    from hf_align.modeling.seq2seq import load_seq2seq
    from hf_align.training import tasks
    from hf_align.training.build import build_model

    config: SftConfig = run.config
    if config.adapter.virtual_tokens:
        raise UserError(
            f"adapter: found {config.adapter.adapter}, which serves decoders here, and "
            f"'{config.model.model_name_or_path}' is an encoder-decoder model; expected a method without "
            "virtual tokens, such as lora, bottleneck or ladder, or none"
        )
    load, apply = _with_new_rows(load_seq2seq, extension)
    add_adapter = partial(apply, task_type="SEQ_2_SEQ_LM")
    built = build_model(run, load, install_selecting_head, pack=False, apply=add_adapter)
    _check_new_rows(built.base, run, extension)
    run.record.update_model(Model(seq2seq=True))
    return built.model, tasks.seq2seq_task(pad_token_id=run.tokenizer.pad_token_id)


def _with_new_rows(load: Callable[..., Any], extension: Extension) -> tuple[Callable[..., Any], Any]:
    """(what loads a model with rows for the new tokens, what puts an adapter on it beside which they are
    trained)."""
    from hf_align.adapters.factory import apply_adapter
    from hf_align.modeling.new_tokens import add_embeddings

    def load_with_rows(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        if extension.tokens:
            add_embeddings(model, extension)
        return model

    rows = range(extension.first_id, extension.first_id + len(extension.tokens))
    return load_with_rows, partial(apply_adapter, new_rows=list(rows))


def _check_new_rows(base: Any, run: Run, extension: Extension) -> None:
    """Raise UserError where the rows of new tokens would stay as they begin."""
    from hf_align.errors import UserError

    adapter = run.config.adapter
    if extension.tokens and adapter.trains_base and not base.get_input_embeddings().weight.requires_grad:
        raise UserError(
            f"trainable: {', '.join(adapter.trainable)} leaves out the embeddings, and with them the rows of "
            "additional_special_tokens; add embeddings (and head)."
        )


def _results(record: Record) -> list[str]:
    """What came out, a line each."""
    lines = []
    metrics = record.final_metrics
    if "eval_loss" in metrics:
        before = metrics.get("eval_loss_before")
        lines.append(f"held-out loss: {f'{before:.4f} -> ' if before else ''}{metrics['eval_loss']:.4f}")
    match = record.sample_exact_match
    if match.after is not None:
        lines.append(f"held-out samples answered exactly: {match.before or 0:.0%} -> {match.after:.0%}")
    calls = record.sample_calls.exact
    if calls.after is not None:
        lines.append(f"held-out calls with all arguments right: {calls.before or 0:.0%} -> {calls.after:.0%}")
    return lines
