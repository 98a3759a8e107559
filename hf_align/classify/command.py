"""Train a head, with its model or an adapter, to classify texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.classify.recipe import ClassifyConfig
from hf_align.classify.record import Classifier, ClassifyRecord
from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.runs.lock import releases_folders

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.tasks import Task
    from hf_align.training.trainer import AlignTrainer


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(ClassifyConfig, argv, command="classify", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: ClassifyConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
    """
    from hf_align.classify.data import classes_line, prepare_labelled
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.training import stage

    machine = stage.begin(config.training)
    tokenizer = load_tokenizer(config.model)
    data = prepare_labelled(
        config.data,
        tokenizer,
        seed=config.training.seed,
        labels=_labels(config),
        separator=config.classify.pair_separator,
    )
    current = stage.open_run("classify", config, machine, tokenizer, data, masks=False)
    if machine.main:
        print(classes_line(data), flush=True)
    current.record.update(ClassifyRecord(labels=list(data.labels), train_labels=data.train_labels))
    with current.watched() as stop:
        model, task = _build(current)
        trainer = stage.make_trainer(current, model, task, stop)
        stage.train(current, trainer, stop, save=_save, evaluated=partial(_note, current, trainer))
        stage.finish(current, _results(ClassifyRecord.of(current.record.content)))
    return current.record.content


def _labels(config: ClassifyConfig) -> Sequence[str] | None:
    """The classes by their numbers, where the model or the recipe settles them."""
    from hf_align.classify.model import known_labels
    from hf_align.errors import UserError

    given = config.classify.labels
    known = known_labels(config.model) if config.classify.init_from == "weights" else None
    if known is not None and given is not None and set(given) != set(known):
        raise UserError(
            f"labels: found {', '.join(given)}; '{config.model.model_name_or_path}' is a classifier of "
            f"{', '.join(known)}. Name the model that it was trained from, or leave labels out."
        )
    return known or given


def _build(run: Run) -> tuple[Any, Task]:
    """The model with what is trained on it, and the task."""
    from hf_align.classify.model import load_classifier_base, reads_segments, train_head_only
    from hf_align.classify.objective import classification_task
    from hf_align.modeling.heads.sequence import install_sequence_head, reads_last_token
    from hf_align.training import build

    config: ClassifyConfig = run.config
    options = config.classify

    def check(run: Run, base: Any) -> None:
        build.ready_for_rows(run, base)
        if base.config.is_encoder_decoder:
            _check_ends(run, base)
        if options.freeze_base:
            train_head_only(base)

    built = build.build_model(
        run,
        load_classifier_base,
        install_sequence_head,
        check=check,
        pack=reads_last_token,
        apply=build.with_trained_head,
        labels=run.data.labels,
        trainable_base=config.adapter.trains_base and not options.freeze_base,
        init_from=options.init_from,
    )
    run.record.update_model(Classifier(pad_token=run.tokenizer.pad_token, init_from=options.init_from))
    return built.model, classification_task(
        packed=built.packed,
        pad_token_id=run.tokenizer.pad_token_id,
        segment_ids=reads_segments(built.base),
        classes=len(run.data.labels),
    )


def _check_ends(run: Run, base: Any) -> None:
    """transformers reads an encoder-decoder at its last end token, and wants as many of them in every row.

    Raises UserError for a row where that is not so.
    """
    from hf_align.errors import UserError

    end = base.config.eos_token_id
    expected = None
    for row in [*run.data.train, *run.data.eval]:
        found = int((row.input_ids == end).sum())
        expected = found if expected is None else expected
        if not found or found != expected or row.input_ids[-1] != end:
            raise UserError(
                f"{row.source}: {found} end-of-sequence tokens (id {end}); {type(base).__name__} needs one "
                "at the end of every row, and as many in one row as in another. Fix the tokenizer, or "
                "classify single texts apart from pairs."
            )


def _note(run: Run, trainer: AlignTrainer, when: str, metrics: dict[str, float]) -> None:
    """Everything an evaluation has found, ``before`` or ``after``, for the report."""
    from hf_align.classify.metrics import classification_evaluation

    found = classification_evaluation(trainer.evaluation_details, run.data.labels, run.data.eval_examples)
    known = ClassifyRecord.of(run.record.content).classification
    run.record.update(ClassifyRecord(classification={**known, when: found}))


def _save(run: Run, trainer: AlignTrainer) -> None:
    """The trained model in the run folder: as it is, or the adapter merged into its base and beside it."""
    from hf_align.classify.saving import save_merged
    from hf_align.training.saving import checked_rows, save_with_adapter

    def merge(folder: Path, adapter: Path) -> float:
        return save_merged(
            folder,
            adapter,
            run.config.model,
            run.tokenizer,
            checked_rows(run),
            labels=run.data.labels,
            precision=run.machine.precision,
        )

    save_with_adapter(run, trainer, merge, metric="largest_logit_difference")


def _results(record: ClassifyRecord) -> list[str]:
    """What came out, a line each."""
    after, before = record.classification.after, record.classification.before
    if not after:
        return []
    low, high = after["accuracy_interval"]
    earlier = f"{before['accuracy']:.1%} -> " if before else ""
    return [
        f"held-out accuracy: {earlier}{after['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; the "
        f"largest class is {after['largest_class_share']:.1%})",
        f"macro F1 {after['f1_macro']:.3f}, Matthews {after['matthews']:.3f}, {after['rows']} rows",
    ]
