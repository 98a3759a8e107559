"""Sample several answers to each prompt, score them, and keep the best: Best-of-N."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.config import load_config
from hf_align.config.best_of_n import BestOfNConfig
from hf_align.errors import UserError

if TYPE_CHECKING:
    from hf_align.data.prompts import Prompt
    from hf_align.evaluation.best_of_n_answers import Answered, Sampler
    from hf_align.training.run_folder import RunRecord

logger = logging.getLogger(__name__)

_OF_ANSWERS = ("num_generations", "max_new_tokens", "temperature", "top_p", "top_k", "seed")
_OF_SCORES = ("reward_weights", "reward_model_input", "center_reward_models", "missing_eos_penalty")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(BestOfNConfig, argv, command="best-of-n", description=__doc__ or "")
    return run(config)


def run(config: BestOfNConfig) -> dict[str, Any]:
    """Sample, score and write as ``config`` says; returns the content of the run's run.json.

    Raises UserError for whatever the user can mend. What was sampled by then stays, and the same command goes
    on from there.
    """
    from hf_align.data.prompts import read_prompts
    from hf_align.evaluation.best_of_n_answers import Sampler
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.precision import runs_on_cpu
    from hf_align.modeling.run_models import find_model, load_run_model
    from hf_align.modeling.stopping import stop_token_ids
    from hf_align.training import launch, run_folder
    from hf_align.training.rewards import load_rewards

    options = config.best_of_n
    use_cpu = runs_on_cpu(options.use_cpu)
    launch.start(use_cpu=use_cpu)
    _refuse_several_processes()
    run_folder.check_output_dir(options.output_dir, resuming=False)
    source = find_model(config.model, base=options.base_model, chosen=config.overrides, use_cpu=use_cpu)
    tokenizer = load_tokenizer(source.config)
    rewards = load_rewards(config.rewards, tokenizer, use_cpu=use_cpu)
    trained_with = source.recipe.get("system_prompt")
    data = config.data
    if data.system_prompt is None and isinstance(trained_with, str):
        data = replace(data, system_prompt=trained_with)
    prompts, report = read_prompts(data, tokenizer)
    print(report.summary(), flush=True)
    model, tokenizer = load_run_model(source, use_cpu=use_cpu)
    prompts = _that_fit(prompts, model, tokenizer, options.max_new_tokens)
    stop_ids = stop_token_ids(model, tokenizer)
    sampler = Sampler(model, tokenizer, stop_ids, rewards, options, config.rewards.missing_eos_penalty)
    identity = _identity(config, sampler, str(source.precision))
    resuming = options.resume and (Path(options.output_dir) / run_folder.RUN_FILE).is_file()
    if resuming:
        _check_same(options.output_dir, identity)
    run_folder.prepare_output_dir(options.output_dir, resuming=resuming)
    record = run_folder.RunRecord("best-of-n", config, options.output_dir, resuming=resuming, main=True)
    record.update(
        identity=identity,
        data_report=report.to_dict(),
        model={
            "name": config.model.model_name_or_path,
            "class": type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "precision": source.precision,
        },
    )
    with _marked_if_cut_short(record):
        answered = _sample(sampler, prompts, record)
        _finish(config, prompts, answered, record)
    return record.content


def _sample(sampler: Sampler, prompts: Sequence[Prompt], record: RunRecord) -> dict[str, Answered]:
    """The answers to all prompts by key, those of an earlier part of the run included."""
    from tqdm.auto import tqdm

    from hf_align.evaluation.best_of_n_answers import append_answers, batches, prompt_key, read_answers
    from hf_align.training.memory import peak_memory_bytes

    folder = sampler.options.output_dir
    answered = read_answers(folder)
    left = {key: prompt for prompt in prompts if (key := prompt_key(prompt)) not in answered}
    done = len({prompt_key(prompt) for prompt in prompts}) - len(left)
    if done:
        logger.info("%d prompts in %s have their answers already", done, folder)
    tokens, best, started = 0, 0.0, time.perf_counter()
    with tqdm(total=done + len(left), initial=done, desc="sampling and scoring", unit="prompt") as bar:
        for number, chosen in enumerate(batches(list(left.values()), sampler.options), start=1):
            found = sampler.answer(chosen)
            append_answers(folder, found)
            answered |= {each.key: each for each in found}
            tokens += sum(sum(each.tokens) for each in found)
            best += sum(max(each.scores) for each in found) / len(found)
            bar.set_postfix(best=f"{best / number:.3g}", refresh=False)
            bar.update(len(found))
    if tokens:
        seconds = time.perf_counter() - started
        record.update(
            tokens_per_second=tokens / max(seconds, 1e-9),
            peak_memory_bytes=peak_memory_bytes(sampler.model.device),
        )
    return answered


def _finish(
    config: BestOfNConfig, prompts: Sequence[Prompt], answered: dict[str, Answered], record: RunRecord
) -> None:
    """The data sets, the figures and the report."""
    from hf_align.evaluation.best_of_n_answers import SAMPLES_FILE, prompt_key, write_answers
    from hf_align.evaluation.best_of_n_files import BEST_FILE, figures, shown, write_results
    from hf_align.reporting.best_of_n_card import write_best_of_n_card
    from hf_align.reporting.html import write_report

    options = config.best_of_n
    keyed = {prompt_key(prompt): prompt for prompt in prompts}
    ours = [answered[key] for key in keyed]
    # Answers to prompts that the recipe no longer has are kept for the next run that has them.
    others = [each for key, each in answered.items() if key not in keyed]
    write_answers(options.output_dir, [replace(each, batch="", batch_size=0) for each in [*ours, *others]])
    files = write_results(options.output_dir, ours, options)
    found = figures(ours, seed=options.seed)
    record.update(
        status="completed",
        best_of_n={**found, "files": {SAMPLES_FILE: len(ours) + len(others), **files}},
        best_of_n_samples=shown(ours, [prompt.text for prompt in keyed.values()]),
        final_metrics={
            "reward/total": found["curve"][0]["reward"],
            "reward/best": found["curve"][-1]["reward"],
        },
    )
    page = write_report(options.output_dir)
    write_best_of_n_card(options.output_dir)
    for line in _results(record.content):
        print(line)
    print(f"best answers: {Path(options.output_dir) / BEST_FILE} ({files[BEST_FILE]:,} rows); report: {page}")


def _results(record: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    found = record["best_of_n"]
    first, last = found["curve"][0], found["curve"][-1]
    lines = [
        f"mean reward: {first['reward']:.4g} for one answer, {last['reward']:.4g} for the best of "
        f"{last['n']} (KL divergence at most {last['kl_bound']:.2f} nats)",
        f"{found['stopped']:.0%} of the answers stopped by themselves; {found['tokens']:.0f} tokens each",
    ]
    if found["undecided"]:
        lines.append(
            f"the rewards see no difference in the answers to {found['undecided']:.0%} of the prompts"
        )
    return lines


def _identity(config: BestOfNConfig, sampler: Sampler, precision: str) -> dict[str, Any]:
    """All that decides what is sampled for a prompt and how it is scored, by the key that sets it."""
    from hf_align.modeling.weights_digest import model_digest

    name = config.model.model_name_or_path
    return {
        "model_name_or_path": model_digest(sampler.model) or name,
        "dtype": precision,
        "tokens that end an answer": list(sampler.stop_ids),
        **{key: getattr(config.best_of_n, key) for key in _OF_ANSWERS},
        "rewards": sampler.rewards.identity(),
        **{key: getattr(config.rewards, key) for key in _OF_SCORES},
    }


def _check_same(output_dir: str, identity: dict[str, Any]) -> None:
    """Raise UserError where ``output_dir`` holds answers of another model, sampled or scored otherwise."""
    from hf_align.evaluation.best_of_n_answers import SAMPLES_FILE
    from hf_align.reporting.run_record import json_ready, read_run

    record = read_run(output_dir)
    if record.get("command") != "best-of-n":
        raise UserError(
            f"output_dir: '{output_dir}' holds a run of hf-align {record.get('command')}; choose another "
            "folder, or set resume: false to move that run aside"
        )
    earlier, now = record.get("identity") or {}, json_ready(identity)
    differing = [key for key in now if earlier.get(key) != now[key]]
    if differing and (Path(output_dir) / SAMPLES_FILE).is_file():
        shown = "; ".join(_difference(key, earlier.get(key), now[key]) for key in differing)
        raise UserError(
            f"output_dir: the answers in '{output_dir}' cannot be gone on with: {shown}. Choose another "
            "folder, or set resume: false to move that run aside"
        )


def _difference(key: str, earlier: Any, now: Any) -> str:
    if key == "model_name_or_path":
        return "they are of a model with other weights"
    if key == "rewards" and isinstance(earlier, dict):
        changed = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
        return f"they were scored by other rewards ({', '.join(changed)})"
    return f"{key} was {earlier} and is {now}"


def _that_fit(prompts: list[Prompt], model: Any, tokenizer: Any, max_new_tokens: int) -> list[Prompt]:
    """The prompts that leave room for an answer in the model's context."""
    from hf_align.modeling.generation import context_length

    limit = context_length(model, tokenizer)
    if limit is None:
        return prompts
    fitting = [prompt for prompt in prompts if len(prompt.ids) + max_new_tokens <= limit]
    if not fitting:
        raise UserError(
            f"max_new_tokens: found {max_new_tokens}, but no prompt leaves that much room in the model's "
            f"{limit} positions (the shortest prompt: {min(len(prompt.ids) for prompt in prompts)} tokens)"
        )
    if len(fitting) < len(prompts):
        logger.warning(
            "%d of %d prompts leave no room for max_new_tokens=%d in the model's %d positions; left out",
            len(prompts) - len(fitting),
            len(prompts),
            max_new_tokens,
            limit,
        )
    return fitting


def _refuse_several_processes() -> None:
    from accelerate import PartialState

    if (count := PartialState().num_processes) > 1:
        raise UserError(
            f"NPROC: found {count} processes; best-of-n runs in one. Give each process a part of the prompts "
            "and an output_dir of its own instead"
        )


@contextlib.contextmanager
def _marked_if_cut_short(record: RunRecord) -> Iterator[None]:
    """Whatever ends the run in here is noted in run.json; the answers so far are on the disk."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk; the error itself says so
            record.update(status="interrupted")
        if not isinstance(error, UserError):
            folder = record.path.parent
            print(f"\nInterrupted; the same command goes on with the answers in {folder}.", file=sys.stderr)
        raise
