"""What the watch over the reward does in a run: it keeps the metrics, warns with evidence, stops, rolls back.

The rules are in ``rules``. What is kept goes into every checkpoint, so that a run that continues from
one is watched as if it had never been interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hf_align.errors import UserError
from hf_align.rewards.models import Reward, Rewards, load_rewards
from hf_align.rl.checkpoints import KEY, Progress, load_checkpoint
from hf_align.rl.record import PpoRecord, RewardWatch
from hf_align.rl.watch import rules
from hf_align.rl.watch.evidence import evidence, warning
from hf_align.runs import checkpoints, processes
from hf_align.runs.metrics import METRICS_FILE, read_metrics, training_rows
from hf_align.runs.record import RUN_FILE, read_run
from hf_align.training import resume

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.data.chat.prompts import Prompt
    from hf_align.rl.episodes import Episode
    from hf_align.rl.recipe import RlConfig
    from hf_align.rl.update import UpdateTools
    from hf_align.rl.watch.rules import Alarm
    from hf_align.training.run import Run

logger = logging.getLogger(__name__)


def load_watch_rewards(
    config: RlConfig, tokenizer: PreTrainedTokenizerBase, *, use_cpu: bool
) -> Rewards | None:
    """The rewards that the policy is not trained on; None where the recipe names none.

    Errors as in :func:`~hf_align.rewards.models.load_rewards`, under the keys of the watch.
    """
    if not config.watch.has_rewards:
        return None
    budget = config.training.max_tokens_per_batch
    try:
        found = load_rewards(config.watch.rewards(), tokenizer, use_cpu=use_cpu, max_tokens=budget)
    except UserError as error:
        raise _under_own_key(error) from error
    parts = {name: _renamed(part) for name, part in found.parts.items()}
    return Rewards(parts, found.weights, found.digests)


def check_not_ended(config: RlConfig) -> None:
    """Raise UserError where the run that is to be continued is one that the watch has ended."""
    training = config.training
    folder = Path(training.output_dir)
    resumes = training.resume_from_checkpoint is not None and (folder / RUN_FILE).is_file()
    if not resumes or training.force_resume or config.watch.watch_action == "warn":
        return
    record = PpoRecord.of(read_run(folder))
    if record.reward_watch.ended:
        raise UserError(
            f"resume_from_checkpoint: {record.message}. Continued as it is, it would go the same way. "
            "Set watch_action: warn to go on all the same; or change what led there, such as kl_coef, and "
            "set force_resume: true."
        )


class Rewound(Protocol):
    """What is taken back to a checkpoint: the loop of a run, with its metrics of the end."""

    progress: Progress
    updating: UpdateTools
    reward_identity: dict[str, Any]
    final: dict[str, Any]


class Watch:
    """The watch of one run. ``fired``: the alarms that end it, none while it goes on."""

    def __init__(self, run: Run, rewards: Rewards | None) -> None:
        config: RlConfig = run.config
        self.options, self.record = config.watch, run.record
        self.output_dir = config.training.output_dir
        self.identity = {} if rewards is None else rewards.identity()
        self.rows: list[dict[str, float]] = []
        self.fired: list[Alarm] = []
        self.checkpoint: Path | None = None
        # Written with the next entry; of the part of the run that this one continues, the alarms stay.
        watch = RewardWatch(
            rewards=list(self.identity),
            action=self.options.watch_action,
            alarms=list(self.known.alarms),
            ended=None,
        )
        run.record.content.update(PpoRecord(reward_watch=watch))
        del run.record.content.message

    @property
    def known(self) -> RewardWatch:
        """What run.json says of the watch so far."""
        return PpoRecord.of(self.record.content).reward_watch

    @property
    def rolls_back(self) -> bool:
        return self.options.watch_action == "roll_back"

    def note(
        self,
        rollout: int,
        figures: Mapping[str, float],
        prompts: Sequence[tuple[int, Prompt]],
        episodes: Sequence[Episode],
    ) -> None:
        """Look at rollout ``rollout`` (from 1): logged metrics, prompts, and the answers of all processes.

        Warns where a limit has been passed for long enough; every process comes to the same decision.
        """
        # Not in place: what was handed out for a checkpoint stays as it was.
        self.rows = [*self.rows, rules.watched_row(rollout, len(episodes), figures)]
        found = processes.on_main(lambda: self._alarms_at(rollout))
        if not found:
            return
        texts = {number: prompt.text for number, prompt in prompts}
        kept = list(self.known.alarms)
        for alarm in found:
            said = rules.describe(alarm, self.rows, self.options)
            samples = evidence(alarm, texts, episodes)
            logger.warning("%s", warning(alarm, said, samples))
            kept.append({**alarm.to_dict(), "said": said, "curves": self._curves(alarm), "samples": samples})
        self._update(RewardWatch(alarms=kept))
        self._end_with(found)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the metrics so far, and which watch rewards gave them."""
        return {"rows": self.rows, "identity": self.identity}

    def resume(self, checkpoint: Path, rollouts: int) -> None:
        """Go on with what ``checkpoint`` holds, which was made after so many ``rollouts``."""
        state = checkpoints.read_state(checkpoint)[KEY].get("watch") or {"rows": [], "identity": {}}
        changed = [name for name, what in state["identity"].items() if self.identity.get(name) != what]
        if changed:
            logger.info("the watch begins anew with %s, which has changed", ", ".join(changed))
        dropped = {f"{start}{name}" for start in (rules.WATCHED, rules.DEVIATION) for name in changed}
        self.rows = [
            {key: value for key, value in row.items() if key not in dropped} for row in state["rows"]
        ]
        kept = [alarm for alarm in self.known.alarms if alarm["rollout"] <= rollouts]
        self._update(RewardWatch(alarms=kept))
        # The run may have been cut off between the alarm and its end.
        self._end_with(processes.on_main(lambda: self._alarms_at(rollouts)))

    def lacks_checkpoint(self) -> bool:
        """Whether the run is to be rolled back if need be, and nothing is there yet to roll back to."""
        return (
            self.rolls_back
            and processes.on_main(lambda: checkpoints.newest_complete(self.output_dir)) is None
        )

    def protected(self) -> list[int]:
        """The steps of the checkpoints that must not be removed: those that an alarm may lead back to."""
        if not self.rolls_back:
            return []
        good = self._newest_until(rules.last_good(self.rows, self.options))
        later = self._newest_until(rules.last_rollout(self.rows) - self.options.watch_window)
        steps = self._steps()
        return [step for step in steps if step == good or later is None or step >= later]

    def outcome(self) -> PpoRecord:
        """The entries of run.json that say how the run has ended."""
        if not self.fired:
            return PpoRecord(status="completed")
        alarm = self.fired[0]
        said = rules.describe(alarm, self.rows, self.options)
        ended = {"action": self.options.watch_action, "rollout": alarm.rollout, "checkpoint": None}
        what, status = f"ended this run at rollout {alarm.rollout}", "stopped"
        if self.checkpoint is not None:
            status = "rolled back"
            what += f" and took it back to {self.checkpoint.name}"
            ended["checkpoint"] = self.checkpoint.name
        message = f"the reward-hacking watch {what}: {said}"
        watch = self.known | RewardWatch(ended=ended)
        return PpoRecord(status=status, message=message, reward_watch=watch)

    def conclude(self, loop: Rewound) -> None:
        """Where the run is to be rolled back: bring it to its last good checkpoint, and let it end there.

        Every process has to call this.
        """
        if not self.fired or not self.rolls_back:
            return
        since = min(alarm.since for alarm in self.fired)
        self.checkpoint = processes.on_main(lambda: self._take_back(since))
        if self.checkpoint is None:
            logger.warning(
                "there is no checkpoint from before rollout %d in %s to roll back to, so that the run ends "
                "with the policy as it is; save more often (save_steps)",
                since,
                self.output_dir,
            )
            return
        loop.progress = load_checkpoint(
            self.checkpoint, loop.updating, rewards=loop.reward_identity, force=True
        )
        figures = {name: value for name, value in loop.final.items() if name.startswith("eval_")}
        rows = training_rows(read_metrics(Path(self.output_dir) / METRICS_FILE).rows)
        then = next((row for row in rows if row["step"] == loop.progress.rollouts), {})
        loop.final = figures | {name: then[name] for name in loop.final if name in then}
        logger.warning("rolled back to %s", self.checkpoint)

    def _alarms_at(self, rollout: int) -> list[Alarm]:
        return [alarm for alarm in rules.alarms(self.rows, self.options) if alarm.rollout == rollout]

    def _end_with(self, found: list[Alarm]) -> None:
        if self.options.watch_action != "warn":
            self.fired = found

    def _take_back(self, since: int) -> Path | None:
        """The last good checkpoint, with those that lie after it out of the way."""
        step = self._newest_until(rules.good_checkpoint(since))
        if step is None:
            return None
        checkpoint = Path(self.output_dir) / f"checkpoint-{step}"
        resume.set_later_aside(checkpoint, self.output_dir)
        return checkpoint

    def _steps(self) -> list[int]:
        """Of the complete checkpoints, in order."""
        folders = checkpoints.all_checkpoints(self.output_dir)
        return [checkpoints.step_of(folder) for folder in folders if not checkpoints.what_is_missing(folder)]

    def _newest_until(self, rollouts: int) -> int | None:
        return max((step for step in self._steps() if step <= rollouts), default=None)

    def _curves(self, alarm: Alarm) -> dict[str, list[float]]:
        """Rollouts, training reward, and what fired, up to the alarm."""
        keys = dict.fromkeys(("rollout", rules.REWARD, alarm.figure))
        known = [row for row in self.rows if alarm.figure in row]
        return {key: [row[key] for row in known] for key in keys}

    def _update(self, found: RewardWatch) -> None:
        self.record.update(PpoRecord(reward_watch=self.known | found))


def _under_own_key(error: UserError) -> UserError:
    message = str(error)
    return UserError(f"watch_{message}" if message.startswith("reward_") else message)


def _renamed(part: Reward) -> Reward:
    """``part`` with its errors under the key of the watch."""

    def score(*answers: Any) -> Any:
        try:
            return part(*answers)
        except UserError as error:
            raise _under_own_key(error) from error

    return score
