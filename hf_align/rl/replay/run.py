"""Computing a recorded update again, from the checkpoint before it or from the start of training.

The updates on the way are made from their recorded rollouts, as they were; of the last one policy, reference
and values are measured again as well. Nothing is sampled and no reward is computed: answers and rewards are
taken as recorded. On a CPU the same bits come out, with one process and the same version of PyTorch. The run
folder is only read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_align.errors import UserError
from hf_align.modeling.loading import load_tokenizer
from hf_align.modeling.precision import resolve_precision, runs_on_cpu
from hf_align.rewards.models import Rewards
from hf_align.rl import checks as ppo_checks
from hf_align.rl.advantages import Experience, final_scores, make_experience
from hf_align.rl.checkpoints import load_checkpoint
from hf_align.rl.episodes import Episode, trees_of, update_rows
from hf_align.rl.models import build_models
from hf_align.rl.recipe import RlConfig
from hf_align.rl.replay.base import COMMANDS, Base, config_of, find_base, notes_on
from hf_align.rl.replay.recording import Recording, load
from hf_align.rl.replay.trace import TokenTrace, TracedObjective
from hf_align.rl.rollout import RolloutTools, measure_episodes
from hf_align.rl.setup import prepare
from hf_align.rl.update import UpdateTools, update
from hf_align.runs import processes as launch
from hf_align.runs.folder import RunRecord
from hf_align.runs.record import read_run
from hf_align.training.run import Machine, Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.modeling.precision import Precision

logger = logging.getLogger(__name__)

MEASURED = ("logps", "reference_logps", "values", "entropies")
"""What is measured of each token again."""


@dataclass(frozen=True)
class Recomputed:
    """What came out when the update was computed again from ``base``.

    ``on_the_way``: by step, which metrics of the updates in between are not those that were logged.
    ``metrics``: by name. ``measured``: the largest difference of each of ``MEASURED`` from what was
    recorded. ``failure``: what ended the update, or an empty text.
    """

    base: Base
    on_the_way: dict[int, list[str]]
    metrics: dict[str, float]
    measured: dict[str, float]
    trace: TokenTrace
    failure: str


@dataclass(frozen=True)
class Replayed:
    """A recorded rollout and its update. ``experience``: from what was recorded. ``again``: what was computed
    again, or None, with ``why_not``. ``notes``: what may make numbers differ."""

    folder: Path
    recording: Recording
    config: RlConfig
    tokenizer: PreTrainedTokenizerBase
    experience: Experience
    again: Recomputed | None
    why_not: str = ""
    notes: list[str] = field(default_factory=list)


def replay(folder: Path, step: int, *, answer: int | None = None) -> Replayed:
    """The update of ``step`` of the run in ``folder``. ``answer``: one, from 1 on, that has to be there.

    Raises UserError where there is no such run, step or answer, where a file of it is broken, and where a
    model of its recipe cannot be loaded.
    """
    record = read_run(folder)
    if record.command not in COMMANDS:
        raise UserError(
            f"{folder}: this is a run of hf-align {record.command}; expected one of {' or '.join(COMMANDS)}."
        )
    recording = load(folder, step)
    count = len(recording.episodes)
    if answer is not None and answer > count:
        raise UserError(
            f"--episode: found {answer}; rollout {step} has {count} answers, expected one of 1 to {count}"
        )
    recipe = record.recipe
    base, why_not = find_base(folder, step, recipe.get("resume_from_checkpoint"))
    use_cpu = runs_on_cpu(recording.circumstances.device == "cpu")
    launch.start(use_cpu=use_cpu)
    _refuse_several_processes()
    machine = Machine(use_cpu, True, resolve_precision(recording.circumstances.precision, use_cpu=use_cpu))
    config = config_of(folder, record.command, recipe, machine)
    tokenizer = load_tokenizer(config.model)
    again = None
    if base is not None:
        record_of_this = RunRecord(
            config.command, config, str(folder), resuming=True, main=False
        )  # never written
        data: Any = None  # what the data gave is recorded
        run = Run(config.command, config, machine, tokenizer, data, {}, base.checkpoint, record_of_this)
        with _threads(recording.circumstances.threads if use_cpu else None):
            again = _compute(run, base, recording)
    return Replayed(
        folder,
        recording,
        config,
        tokenizer,
        _experience(recording, recording.episodes, config),
        again,
        why_not,
        notes_on(recording, config, recipe, machine),
    )


def _compute(run: Run, base: Base, recording: Recording) -> Recomputed:
    config: RlConfig = run.config
    options, training = config.options, config.training
    models = build_models(run)
    steps = recording.circumstances.rollouts * options.steps_per_rollout
    tools = prepare(run, models, steps=steps)
    nothing = Rewards({}, {}, {})
    rolling = RolloutTools(
        models, nothing, run.tokenizer, options, tools.accelerator, training.max_tokens_per_batch
    )
    if base.checkpoint is not None:
        load_checkpoint(base.checkpoint, tools, rewards={}, force=True)
    on_the_way = {}
    with tqdm(total=recording.step - base.step, desc="replay", unit="update") as bar:
        for step in range(base.step + 1, recording.step):
            earlier = load(training.output_dir, step)
            metrics = _update(
                tools, earlier, earlier.episodes, _experience(earlier, earlier.episodes, config)
            )
            on_the_way[step] = differing(earlier.metrics, metrics)
            bar.update()
        measured = _measure(rolling, recording)
        experience = _experience(recording, measured, config)
        trace, metrics, failure = _last_update(tools, recording, measured, experience, run.machine.precision)
        bar.update()
    differences = {
        name: max(
            float(np.abs(getattr(ours, name) - getattr(theirs, name)).max())
            for ours, theirs in zip(measured, recording.episodes, strict=True)
        )
        for name in MEASURED
    }
    return Recomputed(base, on_the_way, metrics, differences, trace, failure)


def _experience(recording: Recording, episodes: Sequence[Episode], config: RlConfig) -> Experience:
    scores, _ = final_scores(
        episodes,
        config.options,
        recording.before.moments,
        missing_eos_penalty=config.rewards.missing_eos_penalty,
    )
    return make_experience(
        episodes, scores, config.options, kl_coef=recording.before.kl_coef, vllm=config.vllm
    )


def _measure(tools: RolloutTools, recording: Recording) -> list[Episode]:
    """The episodes with what the models say of them now, each process's share computed by itself."""
    measured = [dataclasses.replace(episode) for episode in recording.episodes]
    prompts = list(enumerate(recording.prompts))
    processes = recording.circumstances.processes
    for rank in range(processes):
        measure_episodes(tools, trees_of(prompts[rank::processes], measured))
    return measured


def _update(
    tools: UpdateTools,
    recording: Recording,
    episodes: Sequence[Episode],
    experience: Experience,
    *,
    traced: Callable[[list[Any]], UpdateTools] | None = None,
    check_first: Callable[[Mapping[str, float]], None] = lambda metrics: None,
    check_step: Callable[[Mapping[str, float]], None] = lambda metrics: None,
) -> dict[str, float]:
    """The metrics that were logged of the rollout and its update; ``traced`` gives the tools for its rows."""
    learning_rate = float(tools.scheduler.get_last_lr()[0])
    prompts = list(enumerate(recording.prompts))
    trees = trees_of(prompts, episodes)
    rows = update_rows(trees, episodes, experience.columns)
    moved = update(
        tools if traced is None else traced(rows),
        rows,
        prompts=len(prompts),
        seed=recording.order_seed,
        check_first=check_first,
        check_step=check_step,
    )
    episodes_so_far = float(recording.before.episodes + len(episodes))
    return {"episodes": episodes_so_far, **experience.metrics, **moved, "learning_rate": learning_rate}


def _last_update(
    tools: UpdateTools,
    recording: Recording,
    episodes: Sequence[Episode],
    experience: Experience,
    precision: Precision,
) -> tuple[TokenTrace, dict[str, float], str]:
    """(what became of each token, metrics, what ended the update); one that failed has the first metrics."""
    traces: list[TokenTrace] = []

    def traced(rows: list[Any]) -> UpdateTools:
        traces.append(TokenTrace(rows, tools.objective.units))
        return dataclasses.replace(tools, objective=TracedObjective(tools.objective, traces[0].seen))

    def check_step(metrics: Mapping[str, float]) -> None:
        ppo_checks.check_finite(metrics, recording.step)
        traces[0].taken()

    precision = resolve_precision(
        recording.circumstances.precision, use_cpu=tools.accelerator.device.type == "cpu"
    )
    try:
        metrics = _update(
            tools,
            recording,
            episodes,
            experience,
            traced=traced,
            check_first=partial(ppo_checks.check_first_pass, precision=precision),
            check_step=check_step,
        )
    except UserError as error:
        return traces[0], dict(experience.metrics), str(error)
    return traces[0], metrics, ""


def differing(recorded: Mapping[str, float], again: Mapping[str, float]) -> list[str]:
    """The metrics that both have with other bits; two that are no number are the same."""
    return [
        name
        for name, value in recorded.items()
        if name in again and not (value == again[name] or (value != value and again[name] != again[name]))
    ]


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """With as many threads as the run had: sums are cut among them, which decides about last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_several_processes() -> None:
    from accelerate import PartialState

    if (count := PartialState().num_processes) > 1:
        raise UserError(f"NPROC: found {count} processes; --replay runs in one, whatever the run had")
