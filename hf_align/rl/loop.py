"""The loop of every RL algorithm. Sample, score, measure, estimate, update; again and again.

    rollout   sample_episodes     answers to prompts, by the policy as it is        rollout
              score_episodes      what they are worth                               rewards
              measure_episodes    log-probabilities, reference, values              rollout
              make_experience     advantages of tokens, by the algorithm            advantages, algorithms
    update    update              losses of the algorithm, optimizer steps          update, training.step

A rollout draws nothing from what was drawn before it, and a checkpoint lies between two rollouts, so that a
resumed run is the run that it continues. What this leaves out: the models (``models``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from hf_align.rl import checks as ppo_checks
from hf_align.rl.advantages import final_scores, make_experience
from hf_align.rl.checkpoints import Progress, load_checkpoint, save_checkpoint, save_policy
from hf_align.rl.episodes import trees_of, update_rows
from hf_align.rl.grpo.resampling import redraw_equal_groups
from hf_align.rl.log import Clock, RunLog
from hf_align.rl.models import build_models, check_room
from hf_align.rl.prompts import RunPrompts, run_prompts
from hf_align.rl.record import PpoRecord, StartCheckEntry
from hf_align.rl.replay.recorder import Recorder
from hf_align.rl.reward_check import check_first_answers
from hf_align.rl.rollout import (
    RolloutTools,
    gather_episodes,
    held_out_metrics,
    measure_episodes,
    sample_episodes,
    score_episodes,
)
from hf_align.rl.setup import kl_controller, prepare
from hf_align.rl.update import update
from hf_align.rl.vllm.rollout import with_server
from hf_align.rl.watch.actions import Watch
from hf_align.runs import checkpoints
from hf_align.runs.memory import peak_memory_bytes
from hf_align.training.samples import SampleSet

if TYPE_CHECKING:
    from hf_align.rewards.models import Rewards
    from hf_align.rl.recipe import RlConfig
    from hf_align.runs.signals import StopRequest
    from hf_align.training.run import Run

SAMPLING, ORDER, EVALUATION = range(3)
"""What a seed is for, so that no two uses draw the same numbers."""


def train(run: Run, rewards: Rewards, stop: StopRequest, watched: Rewards | None = None) -> None:
    """Everything between an open run and its report. ``watched``: rewards that are not trained on."""
    loop = Loop(run, rewards, watched)
    if run.checkpoint is not None:
        loop.resume(run.checkpoint)
        if loop.evaluation_due:
            # It came after the checkpoint, if at all; a user's rewards may draw random numbers in it.
            loop.evaluate()
    else:
        loop.evaluate("before")
    if loop.watch.lacks_checkpoint():
        loop.save()
    with stop.training():
        bar = tqdm(
            total=loop.rollouts, initial=loop.progress.rollouts, desc=loop.config.method, unit="rollout"
        )
        if not run.machine.main:  # never the other way round: the user may have switched bars off
            bar.disable = True
        while loop.progress.rollouts < loop.rollouts and not loop.watch.fired:
            metrics = loop.rollout_and_update()
            bar.update()
            bar.set_postfix_str(f"reward {metrics['reward/total']:.3f}, KL {metrics['kl']:.3f}")
            stopping = stop.agreed(loop.accelerator.device)
            if loop.checkpoint_due or stopping or loop.watch.fired:
                loop.save()
            if loop.evaluation_due and not stopping and not loop.watch.fired:
                loop.evaluate()
            if stopping:
                break
        bar.close()
    loop.watch.conclude(loop)
    loop.finish()


class Loop:
    """The state of a run and its steps: :meth:`rollout_and_update` is the algorithm."""

    def __init__(self, run: Run, rewards: Rewards, watched: Rewards | None = None) -> None:
        config: RlConfig = run.config
        self.run, self.config = run, config
        self.reward_identity = rewards.identity()
        self.rollouts = config.options.rollouts(len(run.data.train))
        self.prompts: RunPrompts = run_prompts(run, self.rollouts)
        models = build_models(run)
        check_room([*self.prompts.training.values(), *self.prompts.held_out], models, run)
        steps = self.rollouts * config.options.steps_per_rollout
        self.updating = prepare(run, models, steps=steps)
        self.accelerator = self.updating.accelerator
        budget = config.training.max_tokens_per_batch
        tools = RolloutTools(
            models, rewards, run.tokenizer, config.options, self.accelerator, budget, watched
        )
        self.rolling = with_server(tools, self.prompts, run)
        self.progress = Progress(kl_coef=config.options.kl_coef)
        self.check_sampling = ppo_checks.SamplingCheck(run.machine.precision, server=config.vllm.use_vllm)
        examples = run.data.eval_examples or [prompt.example for prompt in self.prompts.training.values()]
        self.samples = SampleSet(models.policy, run.tokenizer, examples, config.samples)
        self.log = RunLog(
            config.training.output_dir,
            main=run.machine.main,
            earlier_seconds=run.record.earlier_seconds,
        )
        self.recorder = Recorder(run, rollouts=self.rollouts, order=ORDER)
        self.watch = Watch(run, watched)
        self.keeper = checkpoints.CheckpointKeeper(
            config.training.save_total_limit,
            keep_best=False,
            also_flush=(self.log.metrics, self.log.samples),
            saved=lambda checkpoint: run.record.update(PpoRecord(last_checkpoint=checkpoint.name)),
            also_keep=self.watch.protected,
        )
        self.final: dict[str, Any] = dict(run.record.content.final_metrics)

    def rollout_and_update(self) -> dict[str, float]:
        """One rollout and its update; returns the metrics that were logged."""
        config, options, progress = self.config, self.config.options, self.progress
        precision, seed = self.run.machine.precision, config.training.seed
        before = replace(progress)
        clock = Clock()
        prompts = list(enumerate(self.prompts.of_rollout(progress.rollouts)))
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        asked = prompts[rank::processes]

        draw = (seed, SAMPLING, progress.rollouts)
        mine = sample_episodes(self.rolling, asked, samples=options.num_generations, seed=draw)
        clock.lap("sample_seconds")
        score_episodes(self.rolling, asked, mine)
        clock.lap("score_seconds")
        redrawn: dict[str, float] = {}
        if options.dynamic_sampling:
            mine, redrawn = redraw_equal_groups(self.rolling, config, asked, mine, seed=draw)
            clock.lap("resample_seconds")
        trees = trees_of(asked, mine)
        measure_episodes(self.rolling, trees)
        clock.lap("measure_seconds")

        episodes = gather_episodes(self.accelerator, mine)
        if progress.rollouts == 0:
            found = ppo_checks.check_reference(episodes, precision)
            self.run.record.update(PpoRecord(start_check=StartCheckEntry(kl_at_start=found)))
            check_first_answers(self.run.record, episodes, samples=options.num_generations)
        self.check_sampling(episodes)
        scores, progress.moments = final_scores(
            episodes,
            options,
            progress.moments,
            missing_eos_penalty=config.rewards.missing_eos_penalty,
        )
        experience = make_experience(episodes, scores, options, kl_coef=progress.kl_coef, vllm=config.vllm)
        # Written before the update as well: one that fails can be looked at.
        self.recorder.write(before, prompts, episodes, scores, experience.metrics)
        learning_rate = float(self.updating.scheduler.get_last_lr()[0])
        moved = update(
            self.updating,
            update_rows(trees, episodes, experience.columns),
            prompts=len(prompts),
            seed=(seed, ORDER, progress.rollouts),
            check_first=partial(ppo_checks.check_first_pass, precision=precision),
            check_step=partial(ppo_checks.check_finite, rollout=progress.rollouts + 1),
        )
        clock.lap("update_seconds")

        controller = kl_controller(options, progress.kl_coef)
        controller.update(experience.kl, len(episodes))
        progress.kl_coef = controller.coefficient
        progress.rollouts += 1
        progress.episodes += len(episodes)
        tokens = sum(len(episode.tokens) for episode in episodes)
        progress.tokens += tokens
        progress.seconds += clock.total
        metrics = {
            "episodes": float(progress.episodes),
            **experience.metrics,
            **moved,
            **redrawn,
            "learning_rate": learning_rate,
            "tokens_per_second": tokens / clock.total,
            "peak_memory_bytes": float(peak_memory_bytes(self.accelerator.device)),
            **clock.laps,
        }
        self.log.write_metrics(progress.rollouts, metrics)
        self.recorder.write(before, prompts, episodes, scores, metrics)
        self.log.answers(progress.rollouts, [prompt.text for _, prompt in prompts], episodes)
        self.watch.note(progress.rollouts, metrics, prompts, episodes)
        self.final |= {name: metrics[name] for name in ("score", "kl", "entropy", "eos_rate")}
        self.final |= {k: value for k, value in metrics.items() if k.startswith(("reward/", "watch/"))}
        return metrics

    def evaluate(self, when: str = "") -> None:
        """Answer the held-out prompts and log what the answers are worth; ``when``: ``before`` or ``after``
        training, where sample answers are kept as well."""
        seed = self.config.training.seed
        if when:
            with self.accelerator.autocast():
                self.samples.generate(when, seed=seed, main=self.run.machine.main)
            self.run.record.update(self.samples.record())
        if not self.prompts.held_out:
            return
        metrics = held_out_metrics(self.rolling, self.prompts.held_out, seed=(seed, EVALUATION))
        self.log.write_metrics(
            self.progress.rollouts, {f"eval_{name}": value for name, value in metrics.items()}
        )
        suffix = "_before" if when == "before" else ""
        self.final |= {f"eval_{name}{suffix}": value for name, value in metrics.items()}
        self.final["eval_answers"] = len(self.prompts.held_out)
        self.run.record.update(PpoRecord(final_metrics=self.final))

    @property
    def checkpoint_due(self) -> bool:
        training, done = self.config.training, self.progress.rollouts
        by_steps = training.save_strategy == "steps"
        return by_steps and (done % training.save_steps == 0 or done == self.rollouts)

    @property
    def evaluation_due(self) -> bool:
        training, done = self.config.training, self.progress.rollouts
        # The last one is made when training is over.
        by_steps = training.eval_strategy == "steps" and done < self.rollouts
        return by_steps and done > 0 and done % (training.eval_steps or 1) == 0

    def save(self) -> None:
        """A checkpoint, verified before older ones go."""
        training = self.config.training
        folder = Path(training.output_dir) / f"checkpoint-{self.progress.rollouts}"
        save_checkpoint(
            folder,
            self.updating,
            self.progress,
            identity=self.run.identity,
            rewards=self.reward_identity,
            watch=self.watch.state(),
        )
        state = SimpleNamespace(
            global_step=self.progress.rollouts,
            is_local_process_zero=self.accelerator.is_local_main_process,
            is_world_process_zero=self.accelerator.is_main_process,
            best_global_step=None,
        )
        self.keeper.on_save(training, state, None)

    def resume(self, checkpoint: Path) -> None:
        self.progress = load_checkpoint(
            checkpoint,
            self.updating,
            rewards=self.reward_identity,
            force=self.config.training.force_resume,
        )
        self.recorder.forget_after(self.progress.rollouts)
        self.log.forget_after(self.progress.rollouts)
        self.watch.resume(checkpoint, self.progress.rollouts)
        self.samples.restore(self.run.record.content.generations)

    def finish(self) -> None:
        """Save the policy, evaluate it, and complete the record."""
        run, progress = self.run, self.progress
        if run.machine.main:
            folder = Path(self.config.training.output_dir)
            self.samples.set_stop_tokens()
            save_policy(self.rolling.models, folder)
            run.tokenizer.save_pretrained(folder)
        self.accelerator.wait_for_everyone()
        self.evaluate("after")
        if self.rolling.server is not None:
            self.rolling.server.close()
        self.final |= {"rollouts": progress.rollouts, "episodes": progress.episodes}
        ended = self.watch.outcome()
        ended.final_metrics = self.final
        ended.tokens_per_second = progress.tokens / max(progress.seconds, 1e-9)
        ended.peak_memory_bytes = peak_memory_bytes(self.accelerator.device)
        run.record.update(ended)
