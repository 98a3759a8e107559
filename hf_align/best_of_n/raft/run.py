"""A run of rejection-sampling fine-tuning from its recipe to its report; its rounds are in ``rounds``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from hf_align.best_of_n.answers import SampledPrompt, digest, prompt_key
from hf_align.best_of_n.raft import metrics as raft_metrics
from hf_align.best_of_n.raft.model import check_start
from hf_align.best_of_n.raft.rounds import Rounds
from hf_align.best_of_n.recipe import BestOfNConfig
from hf_align.best_of_n.record import BestOfNRecord
from hf_align.best_of_n.run import (
    answering_identity,
    continues,
    data_as_trained,
    marked_if_cut_short,
    that_fit,
)
from hf_align.data.chat.prompts import Prompt, prompts_of
from hf_align.data.prepare import prepare_datasets
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError
from hf_align.modeling.loading import load_tokenizer
from hf_align.rewards.models import Rewards, load_rewards
from hf_align.runs import folder as run_folder
from hf_align.runs import processes
from hf_align.runs.memory import peak_memory_bytes
from hf_align.runs.metrics import METRICS_FILE
from hf_align.runs.record import encode_json, write_atomic
from hf_align.runs.signals import StopRequest
from hf_align.sampling.options import context_length
from hf_align.saved_models.run_models import ADAPTER_CONFIG, ModelSource, find_model
from hf_align.training import arguments, stage
from hf_align.types import Example

logger = logging.getLogger(__name__)


def run_rounds(config: BestOfNConfig) -> dict[str, Any]:
    """Sample, keep, train and evaluate as often as ``config`` says; returns the content of run.json.

    Raises UserError for wrong input; the same command goes on with what was done by then.
    """
    options, training = config.best_of_n, config.training
    machine = stage.begin(training)
    _refuse_shards()
    source = find_model(
        config.model, base=options.base_model, chosen=config.overrides, use_cpu=machine.use_cpu
    )
    check_start(source, config.adapter)
    tokenizer = load_tokenizer(source.config)
    rewards = load_rewards(config.rewards, tokenizer, use_cpu=machine.use_cpu)
    data = data_as_trained(config.data, source)
    prepared = prepare_datasets(data, tokenizer, seed=training.seed, keep_examples=True, asked=True)
    if machine.main:
        print(prepared.report.summary(), flush=True)
    limit = _context(config, source, tokenizer)
    prompts, held_out = (
        that_fit(
            _distinct(prompts_of(cast(list[Example], list(examples)), data, tokenizer)),
            limit,
            options.max_new_tokens,
        )
        for examples in (cast(RowSelection, prepared.train).examples, prepared.eval_examples)
    )
    identity = _identity(config, machine, rewards, prompts, held_out)
    resuming = processes.on_main(lambda: continues(config, identity))
    processes.on_main(lambda: _check_rounds(config, resuming=resuming))
    processes.on_main(lambda: run_folder.prepare_output_dir(training.output_dir, resuming=resuming))
    run_folder.check_shared(training.output_dir, main=machine.main, wait=processes.wait_for_everyone)
    record = run_folder.RunRecord(
        "best-of-n", config, training.output_dir, resuming=resuming, main=machine.main
    )
    record.update(BestOfNRecord(identity=identity, data_report=prepared.report.to_dict()))
    rounds = Rounds(config, machine, source, tokenizer, rewards, prompts, held_out, limit, record)
    with StopRequest(main=machine.main) as stop, marked_if_cut_short(record):
        _run(rounds, stop)
    return record.content


def _run(rounds: Rounds, stop: StopRequest) -> None:
    """All rounds, the metrics after each of them, and the report."""
    config, record = rounds.config, rounds.record
    seed = config.training.seed
    start = answered = rounds.evaluate(0)
    done: list[dict[str, Any]] = [
        {"round": 0, "held_out": raft_metrics.held_out_metrics(start, start, seed=seed)}
    ]
    _note(rounds, done)
    sampled: list[SampledPrompt] = []
    for number in range(1, config.best_of_n.rounds + 1):
        sampled = rounds.sample(number)
        trained = rounds.train(number, stop)
        answered = rounds.evaluate(number)
        entry = raft_metrics.round_metrics(number, sampled, trained, config.best_of_n, seed=seed)
        entry["held_out"] = raft_metrics.held_out_metrics(answered, start, seed=seed)
        done.append(entry)
        _note(rounds, done)
    rounds.copy_model(config.best_of_n.rounds)
    record.update(
        BestOfNRecord(
            status="completed",
            generations=raft_metrics.generations(rounds.held_out, start, answered) if start else [],
            best_of_n_samples=raft_metrics.best_and_worst(sampled, rounds.prompts),
        )
    )
    if rounds.machine.main:
        _report(rounds, done)


def _note(rounds: Rounds, done: list[dict[str, Any]]) -> None:
    """What is known by now, in run.json and metrics.jsonl."""
    effort = rounds.effort
    found = BestOfNRecord(rounds=done, final_metrics=raft_metrics.final_metrics(done))
    if effort.tokens:
        found.tokens_per_second = effort.tokens / max(effort.seconds, 1e-9)
        kind = "cpu" if rounds.machine.use_cpu or not torch.cuda.is_available() else "cuda"
        peak = peak_memory_bytes(torch.device(kind))
        found.peak_memory_bytes = max(peak, rounds.record.content.peak_memory_bytes or 0)
    rounds.record.update(found)
    if rounds.machine.main:
        lines = [encode_json(row) + b"\n" for row in raft_metrics.metrics_rows(done)]
        write_atomic(Path(rounds.config.training.output_dir) / METRICS_FILE, b"".join(lines))
    last = done[-1]
    if last["held_out"] is not None:
        logger.info(
            "%s: reward of the answers to %d held-out prompts %.4g",
            f"after round {last['round']}" if last["round"] else "before training",
            last["held_out"]["prompts"],
            last["held_out"]["reward"],
        )


def _report(rounds: Rounds, done: list[dict[str, Any]]) -> None:
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card

    folder = rounds.config.training.output_dir
    page = write_report(folder)
    write_model_card(folder)
    for line in _results(done):
        print(line)
    print(f"model in {folder}; report: {page}")


def _results(done: list[dict[str, Any]]) -> list[str]:
    """What came out, a line each."""
    lines = []
    for entry in done[1:]:
        curve = entry["sampled"]["curve"]
        lines.append(
            f"round {entry['round']}: mean reward of the samples {curve[0]['reward']:.4g}, of the best of "
            f"{curve[-1]['n']} {curve[-1]['reward']:.4g}; {entry['kept']} answers to {entry['kept_prompts']} "
            "prompts kept"
        )
    first, last = done[0]["held_out"], done[-1]["held_out"]
    if first is not None and last is not None:
        between = last["change_interval"]
        shown = "" if between is None else f" (95 %: {between[0]:+.4g} to {between[1]:+.4g})"
        lines.append(
            f"held-out reward: {first['reward']:.4g} -> {last['reward']:.4g}, {last['change']:+.4g}{shown}"
        )
    return lines


def _identity(
    config: BestOfNConfig,
    machine: stage.Machine,
    rewards: Rewards,
    prompts: list[Prompt],
    held_out: list[Prompt],
) -> dict[str, Any]:
    """All that decides what a round leaves; the weights of the start are those that its path names."""
    recipe = config.to_flat()
    # Of rows and rewards the content counts, of the machine the precision that auto came to.
    kept = {key: recipe[key] for key in config.keys_that_change("result", "loss")}
    return {
        **kept,
        "precision": machine.precision,
        **answering_identity(config, rewards),
        "rows of an optimizer step": arguments.rows_per_rank(config.training) * arguments.world_size(),
        "prompts": digest([prompt_key(prompt) for prompt in prompts]),
        "held-out prompts": digest([prompt_key(prompt) for prompt in held_out]),
    }


def _check_rounds(config: BestOfNConfig, *, resuming: bool) -> None:
    """Raise UserError where fewer rounds are asked for than are there."""
    folder, wanted = Path(config.training.output_dir), config.best_of_n.rounds
    if resuming and (folder / f"round-{wanted + 1}").exists():
        raise UserError(
            f"rounds: found {wanted}, but '{folder}' has begun round {wanted + 1}; ask for more, choose "
            "another folder, or set resume: false to move that run aside"
        )


def _distinct(prompts: list[Prompt]) -> list[Prompt]:
    return list({prompt_key(prompt): prompt for prompt in prompts}.values())


def _context(recipe: BestOfNConfig, source: ModelSource, tokenizer: Any) -> int | None:
    """Tokens that fit into the model with what is trained on it, from its configuration alone."""
    from transformers import AutoConfig

    name = source.config.model_name_or_path
    config = AutoConfig.from_pretrained(
        name, revision=source.config.model_revision, trust_remote_code=source.config.trust_remote_code
    )
    virtual = recipe.adapter.num_virtual_tokens if recipe.adapter.virtual_tokens else 0
    if source.adapter is not None:
        settings = json.loads((source.adapter / ADAPTER_CONFIG).read_bytes())
        virtual = int(settings.get("num_virtual_tokens") or 0)
    return context_length(SimpleNamespace(config=config), tokenizer, virtual_tokens=virtual)


def _refuse_shards() -> None:
    import os

    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(name, "false").lower() == "true":
            raise UserError(
                "best-of-n runs in one process or under DistributedDataParallel: sharded models (FSDP, "
                "DeepSpeed) cannot write answers token by token. Start it with NPROC=… or "
                "recipes/accelerate/ddp.yaml"
            )
