"""Align a language model with a reward by proximal policy optimisation (PPO) on its own answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_align.config import load_config
from hf_align.config.checks import check_inputs
from hf_align.errors import UserError, did_you_mean
from hf_align.rl.recipe import PpoConfig, RlConfig
from hf_align.runs.lock import releases_folders
from hf_align.runs.schema import Record

OWN_HELP = """
replay (without a recipe; the run folder holds it):
  --replay RUN:STEP               compute the update of a recorded rollout again, compare it with
                                  what was logged, show where the numbers came from, and write
                                  RUN/replay-STEP.html; for example --replay runs/{command}:12
  --episode N                     with --replay: show answer N of the rollout in full as well"""
_EXPECTED = "expected RUN:STEP, for example runs/ppo:12"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json.

    With ``--replay`` what :func:`replay` returns.
    """
    return main_of(PpoConfig, argv, __doc__ or "")


def main_of(recipe: type[RlConfig], argv: Sequence[str] | None, description: str) -> dict[str, Any]:
    """``main`` of the command with this kind of ``recipe``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_help = "-h" in arguments or "--help" in arguments
    if not wants_help and any(one.partition("=")[0] == "--replay" for one in arguments):
        return replay(*read_replay(arguments))
    try:
        # Errors in the recipe are reported before anything heavy is imported.
        config = load_config(recipe, arguments, command=recipe.command, description=description)
        check_inputs(config)
    finally:
        if wants_help:
            print(OWN_HELP.format(command=recipe.command))
    return run(config)


def read_replay(arguments: Sequence[str]) -> tuple[str, int, int | None]:
    """(run folder, step, number of an answer or None). Raises UserError for anything else."""
    given: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if name not in ("--replay", "--episode"):
            advice = "" if name == "--config" else did_you_mean(name, ["--replay", "--episode"])
            raise UserError(
                f"{name}: --replay takes nothing beside it but --episode N; the recipe is that of the run."
                f"{advice}"
            )
        if name in given:
            raise UserError(f"{name}: this option is given twice.")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"{name}: a value is missing.")
            value = waiting.pop(0)
        given[name] = value
    run_dir, colon, step = given["--replay"].rpartition(":")
    if not colon or not run_dir or not _is_count(step):
        raise UserError(f"--replay: found {given['--replay']!r}, {_EXPECTED}.")
    episode = given.get("--episode")
    if episode is not None and not _is_count(episode):
        raise UserError(f"--episode: found {episode!r}, expected the number of an answer, from 1 on.")
    return run_dir, int(step), None if episode is None else int(episode)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def replay(run_dir: str, step: int, episode: int | None = None) -> dict[str, Any]:
    """Replay the update of ``step``, print what came of it, and write its page into the run folder.

    Returns the metrics as ``recorded`` and, where they could be computed, ``again``, the names of those that
    differ (``differing``), and the ``page``. Raises UserError for wrong input.
    """
    from hf_align.rl.replay.breakdown import breakdowns, outstanding
    from hf_align.rl.replay.page import page_name, render_page
    from hf_align.rl.replay.run import differing
    from hf_align.rl.replay.run import replay as compute
    from hf_align.rl.replay.text import answer_text, summary_text
    from hf_align.runs.record import write_atomic

    folder = Path(os.path.expanduser(run_dir))
    replayed = compute(folder, step, answer=episode)
    found = breakdowns(replayed)
    standing = outstanding(found)
    print(summary_text(replayed, found, standing))
    if episode is not None:
        print("", answer_text(replayed, found[episode - 1]), sep="\n")
        standing = {"asked for": found[episode - 1], **standing}
    page = folder / page_name(step)
    # A lone surrogate from a broken prompt has no UTF-8 form.
    write_atomic(page, render_page(replayed, found, standing).encode("utf-8", "replace"))
    advice = "" if episode is not None else f" --episode N shows one answer in full (1 to {len(found)})."
    print(f"\n{page}.{advice}")
    again = None if replayed.again is None else replayed.again.metrics
    recorded = replayed.recording.metrics
    names = differing(recorded, again or {})
    return {"recorded": recorded, "again": again, "differing": names, "page": str(page)}


@releases_folders
def run(config: RlConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for wrong input; a run that is cut short is marked in run.json.
    """
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.rewards.models import load_rewards
    from hf_align.rl import loop
    from hf_align.rl.reward_check import check_on_pairs
    from hf_align.rl.watch.actions import check_not_ended, load_watch_rewards
    from hf_align.runs import processes
    from hf_align.training import stage

    machine = stage.begin(config.training)
    processes.on_main(lambda: check_not_ended(config))
    tokenizer = load_tokenizer(config.model)
    rewards = load_rewards(
        config.rewards,
        tokenizer,
        use_cpu=machine.use_cpu,
        max_tokens=config.training.max_tokens_per_batch,
    )
    watched = load_watch_rewards(config, tokenizer, use_cpu=machine.use_cpu)
    data = prepare_datasets(config.data, tokenizer, seed=config.training.seed, keep_examples=True, asked=True)
    current = stage.open_run(config.command, config, machine, tokenizer, data)
    # What is trained are sampled answers, not the targets of the data.
    current.record.update(Record(mask_samples=[]))
    with current.watched() as stop:
        if current.checkpoint is None:
            check_on_pairs(current, rewards, watched)
        loop.train(current, rewards, stop, watched)
        stage.finish(current, _results(current.record.content))
    return current.record.content


def _results(record: Record) -> list[str]:
    """What came out, a line each."""
    metrics = record.final_metrics
    lines = [record.message] if record.message else []
    before, after = metrics.get("eval_reward/total_before"), metrics.get("eval_reward/total")
    if after is not None:
        change = f"{before:.4f} -> " if before is not None else ""
        lines.append(
            f"held-out reward: {change}{after:.4f} on {metrics['eval_answers']} answers, "
            f"KL from the reference {metrics['eval_kl']:.3f} nats per answer"
        )
    if "reward/total" in metrics:
        lines.append(
            f"last rollout: reward {metrics['reward/total']:.4f}, KL {metrics['kl']:.3f} nats per answer, "
            f"{metrics['eos_rate']:.0%} of the answers ended by themselves"
        )
    return lines
