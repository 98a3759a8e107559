"""Sample several answers to each prompt, score them, and keep the best; with --train, learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.best_of_n.recipe import BestOfNConfig
from hf_align.best_of_n.record import BestOfNRecord, Samples
from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.runs.lock import releases_folders
from hf_align.runs.schema import Model

if TYPE_CHECKING:
    from hf_align.best_of_n.answers import SampledPrompt
    from hf_align.data.chat.prompts import Prompt
    from hf_align.runs.folder import RunRecord


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(BestOfNConfig, argv, command="best-of-n", description=__doc__ or "")
    check_inputs(config)
    return run(config)


@releases_folders
def run(config: BestOfNConfig) -> dict[str, Any]:
    """Sample, score and write as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input. What was done by then stays, and the same command goes on
    from there.
    """
    if config.best_of_n.train:
        from hf_align.best_of_n.raft.run import run_rounds

        return run_rounds(config)

    from hf_align.best_of_n.answers import SCORED_ANSWERS_FILE
    from hf_align.best_of_n.run import (
        answering_identity,
        continues,
        data_as_trained,
        make_sampler,
        marked_if_cut_short,
        that_fit,
    )
    from hf_align.best_of_n.sampling import Effort, answer_all
    from hf_align.data.chat.prompts import read_prompts
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.precision import runs_on_cpu
    from hf_align.modeling.weights_digest import model_digest
    from hf_align.rewards.models import load_rewards
    from hf_align.runs import folder as run_folder
    from hf_align.runs import processes
    from hf_align.runs.memory import peak_memory_bytes
    from hf_align.sampling.options import context_length
    from hf_align.saved_models.run_models import find_model, load_run_model

    options, output_dir = config.best_of_n, config.training.output_dir
    use_cpu = runs_on_cpu(config.training.use_cpu)
    main = processes.start(use_cpu=use_cpu)
    processes.on_main(lambda: run_folder.claim_output_dir(output_dir, resuming=False))
    source = find_model(config.model, base=options.base_model, chosen=config.overrides, use_cpu=use_cpu)
    tokenizer = load_tokenizer(source.config)
    rewards = load_rewards(config.rewards, tokenizer, use_cpu=use_cpu)
    prompts, report = read_prompts(data_as_trained(config.data, source), tokenizer)
    if main:
        print(report.summary(), flush=True)
    model, tokenizer = load_run_model(source, use_cpu=use_cpu)
    prompts = that_fit(prompts, context_length(model, tokenizer), options.max_new_tokens)
    sampler = make_sampler(config, model, tokenizer, rewards)
    identity = {
        "train": False,
        "model_name_or_path": model_digest(model) or config.model.model_name_or_path,
        "dtype": str(source.precision),
        "tokens that end an answer": list(sampler.stop_ids),
        **answering_identity(config, rewards),
    }
    resuming = processes.on_main(lambda: continues(config, identity))
    processes.on_main(lambda: run_folder.prepare_output_dir(output_dir, resuming=resuming))
    record = run_folder.RunRecord("best-of-n", config, output_dir, resuming=resuming, main=main)
    facts = Model(
        name=config.model.model_name_or_path,
        class_name=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        precision=source.precision,
    )
    record.update(BestOfNRecord(identity=identity, data_report=report.to_dict(), model=facts))
    with marked_if_cut_short(record):
        effort = Effort()
        answered = answer_all(
            prompts,
            Path(output_dir) / SCORED_ANSWERS_FILE,
            lambda: sampler,
            samples=options.num_generations,
            max_rows=options.generation_batch_size,
            effort=effort,
        )
        if effort.tokens:
            speed = effort.tokens / max(effort.seconds, 1e-9)
            peak = peak_memory_bytes(model.device)
            record.update(BestOfNRecord(tokens_per_second=speed, peak_memory_bytes=peak))
        if main:
            _finish(config, prompts, answered, record)
    return record.content


def _finish(
    config: BestOfNConfig, prompts: Sequence[Prompt], answered: dict[str, SampledPrompt], record: RunRecord
) -> None:
    """The data sets, the metrics and the report."""
    from hf_align.best_of_n.answers import SCORED_ANSWERS_FILE, prompt_key, write_answers
    from hf_align.best_of_n.files import BEST_FILE, metrics, shown, write_results
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    folder = Path(config.training.output_dir)
    keyed = {prompt_key(prompt): prompt for prompt in prompts}
    ours = [answered[key] for key in keyed]
    # Answers to prompts that the recipe no longer has are kept for the next run that has them.
    others = [each for key, each in answered.items() if key not in keyed]
    whole = [replace(each, batch="", batch_size=0) for each in [*ours, *others]]
    write_answers(folder / SCORED_ANSWERS_FILE, whole)
    files = write_results(folder, ours, config.best_of_n)
    found = metrics(ours, seed=config.training.seed)
    found.files = {SCORED_ANSWERS_FILE: len(whole), **files}
    record.update(
        BestOfNRecord(
            status="completed",
            best_of_n=found,
            best_of_n_samples=shown(ours, [prompt.text for prompt in keyed.values()]),
            final_metrics={
                "reward/total": found.curve[0]["reward"],
                "reward/best": found.curve[-1]["reward"],
            },
        )
    )
    page = write_report(folder)
    write_model_card(folder)
    for line in _results(found):
        print(line)
    print(f"best answers: {folder / BEST_FILE} ({files[BEST_FILE]:,} rows); report: {page}")


def _results(found: Samples) -> list[str]:
    """What came out, a line each."""
    first, last = found.curve[0], found.curve[-1]
    lines = [
        f"mean reward: {first['reward']:.4g} for one answer, {last['reward']:.4g} for the best of "
        f"{last['n']} (KL divergence at most {last['kl_bound']:.2f} nats)",
        f"{found.stopped:.0%} of the answers stopped by themselves; {found.tokens:.0f} tokens each",
    ]
    if found.undecided:
        lines.append(f"the rewards see no difference in the answers to {found.undecided:.0%} of the prompts")
    return lines
