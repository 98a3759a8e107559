"""The flight recorder of a run: every rollout goes to disk, before its update and again with its metrics.

An update that fails is recorded too, therefore, without metrics. What this leaves out: the file itself
(``replay.recording``), and what is made of it (``replay.run``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_align.config.fields import Spec, entry_type, specs_of
from hf_align.rl.replay.recording import FOLDER, Recording, RunContext, path_of, recorded_steps, save
from hf_align.runs.checkpoints import all_checkpoints, step_of
from hf_align.runs.record import redact

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt
    from hf_align.rewards.scaling import Scores
    from hf_align.rl.checkpoints import Progress
    from hf_align.rl.episodes import Episode
    from hf_align.rl.recipe import RlConfig
    from hf_align.training.run import Run


class Recorder:
    """Writes on the main process only, and only where the recipe has ``record_rollouts``.

    ``rollouts``: of the whole run as planned; ``order``: what, beside seed and rollout, seeds the order of
    mini-batches.
    """

    def __init__(self, run: Run, *, rollouts: int, order: int) -> None:
        self.config: RlConfig = run.config
        training = self.config.training
        self.folder = Path(training.output_dir)
        self.on = run.machine.main and training.record_rollouts
        self.order = order
        self.circumstances = RunContext(
            rollouts=rollouts,
            processes=run.identity["processes"],
            threads=torch.get_num_threads(),
            precision=run.machine.precision,
            device="cpu" if run.machine.use_cpu else "accelerator",
            torch=torch.__version__,
            recipe=recipe_digest(type(self.config), self.config.to_flat()),
            seed=training.seed,
        )
        if self.on:
            for part in (self.folder / FOLDER).glob(".*.part"):  # of a process that was killed
                part.unlink(missing_ok=True)

    def write(
        self,
        before: Progress,
        prompts: Sequence[tuple[int, Prompt]],
        episodes: Sequence[Episode],
        scores: Scores,
        metrics: Mapping[str, float],
    ) -> None:
        """Write or write again the rollout that follows ``before``; older ones than the limit go.

        Arguments as in :class:`~hf_align.rl.replay.recording.Recording`, over all processes. Raises
        OSError where the disk is full.
        """
        if not self.on:
            return
        recording = Recording(
            [prompt for _, prompt in prompts],
            list(episodes),
            scores,
            before,
            (self.circumstances.seed, self.order, before.rollouts),
            before.rollouts * self.config.options.steps_per_rollout,
            dict(metrics),
            self.circumstances,
        )
        save(recording, self.folder)
        self._prune(recording.step)

    def forget_after(self, step: int) -> None:
        """Remove the rollouts after ``step``, where the run goes on; it writes them anew."""
        if self.on:
            for later in recorded_steps(self.folder):
                if later > step:
                    path_of(self.folder, later).unlink(missing_ok=True)

    def _prune(self, newest: int) -> None:
        limit = self.config.training.record_limit
        if limit is None:
            return
        oldest = newest - limit + 1
        # An update is computed again from the checkpoint before it, by way of all that lie between.
        bases = [at for at in map(step_of, all_checkpoints(self.folder)) if at < oldest]
        first = bases[-1] + 1 if bases else oldest
        for step in recorded_steps(self.folder):
            if step < first:
                path_of(self.folder, step).unlink(missing_ok=True)


FORMER = {"num_generations": "samples_per_prompt", "generation_batch_size": "max_rows_at_once"}
"""Names of keys in the digests of all releases."""


def recipe_digest(kind: type[RlConfig], recipe: Mapping[str, Any]) -> str:
    """A digest of the keys of a flat ``recipe`` of this ``kind`` that decide about the numbers of an update.

    Device and precision are not among them: a recording has them as they came out.
    """
    # Keys that change results by rounding count here, where every bit is compared.
    left_out = kind.keys_that_change("machine", "step_rows", "outputs", "speed", "place", "resuming")
    named = kind.renamed(recipe)
    keys = kind.keys()
    named = {key: _entries_before(value, keys.get(key)) for key, value in named.items()}
    without = {*left_out, *_later_at_default(named, keys)}
    kept = redact({FORMER.get(key, key): value for key, value in named.items() if key not in without})
    budget = kept.pop("max_tokens_per_batch", None)
    content = json.dumps([kept, budget], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _later_at_default(values: Mapping[str, Any], specs: Mapping[str, Spec]) -> set[str]:
    """The keys that the first releases lacked and that are at their defaults."""
    later = ((key, spec.default) for key, spec in specs.items() if spec.option.later)
    return {key for key, default in later if values.get(key, default) == default}


def _entries_before(value: Any, spec: Spec | None) -> Any:
    """The entries of a list, such as the data sets, without such keys; any other value as it is."""
    group = None if spec is None else entry_type(spec.hint)
    if group is None or not isinstance(value, list):
        return value
    specs = specs_of(group)
    return [
        {key: item for key, item in entry.items() if key not in _later_at_default(entry, specs)}
        if isinstance(entry, Mapping)
        else entry
        for entry in value
    ]
