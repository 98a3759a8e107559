"""Train a tokenizer on text, or extend one (with its model) for new text, and report how well it fits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.runs.lock import releases_folders
from hf_align.tokenization.recipe import TokenizerConfig
from hf_align.tokenization.record import Extended, TokenizerMetrics, TokenizerRecord

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.runs.folder import RunRecord
    from hf_align.types.tokens import Extension

Named = list[tuple[str, Any]]


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(TokenizerConfig, argv, command="tokenizer", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: TokenizerConfig) -> dict[str, Any]:
    """Train or extend, measure and write as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input.
    """
    from hf_align.modeling.loading import read_tokenizer
    from hf_align.runs import folder as run_folder
    from hf_align.tokenization.corpus import check_held_out, training_texts
    from hf_align.tokenization.train import train_tokenizer

    options, extension = config.tokenizer, config.extension
    run_folder.claim_output_dir(options.output_dir, resuming=False)
    compared = read_tokenizer("compare_with", options.compare_with) if options.compare_with else None
    base = read_tokenizer("extend", extension.extend) if extension.extend else None
    # Before anything is learned, since only then does a wrong path cost nothing.
    model = _model(config, base) if base is not None else None
    check_held_out(config.data)
    run_folder.prepare_output_dir(options.output_dir, resuming=False)
    record = run_folder.RunRecord("tokenizer", config, options.output_dir, resuming=False, main=True)
    with _marked_if_cut_short(record):
        if base is None:
            made: Any = train_tokenizer(
                lambda: training_texts(config.data),
                options,
                show_progress=sys.stderr.isatty(),
            )
            made.save_pretrained(options.output_dir)
            others: Named = []
        else:
            extended = _extend(config, base, model, record)
            made, others = extended.tokenizer, [(f"{extension.extend} before", base)]
        if compared is not None:
            others.append((str(options.compare_with), compared))
        _finish(config, made, others, record)
    return record.content


def _model(config: TokenizerConfig, base: PreTrainedTokenizerBase) -> Any:
    """The model to extend with its tokenizer, or None."""
    from hf_align.modeling.new_tokens import has_weights, load_model_to_extend

    name = str(config.extension.extend)
    wanted = config.extension.extend_model
    return load_model_to_extend(name, base) if (has_weights(name) if wanted is None else wanted) else None


def _extend(
    config: TokenizerConfig, base: PreTrainedTokenizerBase, model: Any, record: RunRecord
) -> Extension:
    from hf_align.modeling.new_special_tokens import add_special_tokens
    from hf_align.modeling.new_tokens import add_embeddings, save_extended
    from hf_align.tokenization.corpus import training_texts
    from hf_align.tokenization.extend import extend_tokenizer, unextended

    options, chosen = config.tokenizer, config.extension
    if chosen.new_tokens:
        extension = extend_tokenizer(
            base,
            lambda: training_texts(config.data),
            chosen,
            min_frequency=config.tokenizer.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
    else:
        extension = unextended(base)
    if options.additional_special_tokens:
        special = add_special_tokens(extension.tokenizer, options.additional_special_tokens, before=base)
        extension = replace(extension, tokens=[*extension.tokens, *special.tokens])
    tokenizer = extension.tokenizer
    facts = Extended(first_id=extension.first_id, count=len(extension.tokens))
    if model is not None:
        before = sum(parameter.numel() for parameter in model.parameters())
        add_embeddings(model, extension, start=chosen.new_embeddings, seed=chosen.seed)
        after = sum(parameter.numel() for parameter in model.parameters())
        facts.model, facts.parameters_before, facts.parameters = type(model).__name__, before, after
    save_extended(Path(options.output_dir), extension, model)
    shown = [tokenizer.decode([extension.first_id + place]) for place in range(len(extension.tokens))]
    facts.examples = [text for text in shown if "\ufffd" not in text][:100]
    record.update(TokenizerRecord(extension=facts))
    return extension


def _finish(config: TokenizerConfig, made: PreTrainedTokenizerBase, others: Named, record: RunRecord) -> None:
    """The metrics, the pages, and what the terminal says."""
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card
    from hf_align.tokenization.corpus import held_out_texts
    from hf_align.tokenization.measure import figures, measure, segmentation
    from hf_align.tokenization.report import largest_gain

    options, text = config.tokenizer, config.data
    names = ["this tokenizer", *(Path(name).name for name, _ in others)]
    tokenizers = [made, *(tokenizer for _, tokenizer in others)]
    measured, samples = measure(tokenizers, held_out_texts(text))
    results = [
        figures(tokenizer, found, name=name)
        for tokenizer, found, name in zip(tokenizers, measured, names, strict=True)
    ]
    held_out = bool(text.eval_datasets or text.eval_split_size)
    segmentations = [
        {
            "text": sample,
            "pieces": [
                {"name": name, "pieces": segmentation(tokenizer, sample)}
                for name, tokenizer in zip(names, tokenizers, strict=True)
            ],
        }
        for sample in samples[: options.num_samples]
    ]
    record.update(
        TokenizerRecord(
            status="completed",
            tokenizer=TokenizerMetrics(
                held_out=held_out, figures=results, special=list(made.all_special_tokens)
            ),
            segmentations=segmentations,
            final_metrics=_headline(results[0]),
        )
    )
    page = write_report(options.output_dir)
    write_model_card(options.output_dir)
    for line in _lines(results, held_out):
        print(line)
    gain = largest_gain(results) if TokenizerRecord.of(record.content).extension else None
    if gain is not None:
        print(f"{gain.script}: {gain.after:.2f} tokens a character, {gain.before:.2f} before")
    print(f"tokenizer: {options.output_dir}; report: {page}")


def _headline(figures: dict[str, Any]) -> dict[str, float]:
    total = figures["total"]
    tokens = max(1, total["tokens"])
    return {
        "token_characters": total["characters"] / tokens,
        "token_bytes": total["bytes"] / tokens,
        "unknown_rate": total["unknown"] / tokens,
        "vocabulary_used": figures["used_share"],
    }


def _lines(results: Sequence[dict[str, Any]], held_out: bool) -> Iterator[str]:
    """What came out, a line for each tokenizer and source."""
    for found in results:
        for source, total in found["by"]["source"].items():
            tokens = max(1, total["tokens"])
            where = "held-out text" if held_out else "its training text"
            yield (
                f"{found['name']} ({found['vocab_size']:,} tokens) on {where} of {source}: "
                f"{total['characters'] / tokens:.2f} characters and {total['bytes'] / tokens:.2f} bytes a "
                f"token, {total['unknown'] / tokens:.2%} unknown"
            )


@contextlib.contextmanager
def _marked_if_cut_short(record: RunRecord) -> Iterator[None]:
    """Whatever ends the run in here is noted in run.json."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk; the error itself says so
            record.update(TokenizerRecord(status="interrupted"))
        raise
