"""Align a language model with a reward by proximal policy optimisation (PPO) on its own answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_align.config import load_config
from hf_align.config.ppo import PpoConfig


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json."""
    # Errors in the recipe are reported before anything heavy is imported.
    config = load_config(PpoConfig, argv, command="ppo", description=__doc__ or "")
    return run(config)


def run(config: PpoConfig) -> dict[str, Any]:
    """Train as ``config`` says; returns the content of the run's run.json.

    Raises UserError for whatever the user can mend; a run that is cut short is marked in run.json.
    """
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.training import ppo, stage
    from hf_align.training.rewards import load_rewards

    machine = stage.begin(config.training)
    tokenizer = load_tokenizer(config.model)
    rewards = load_rewards(
        config.rewards,
        tokenizer,
        use_cpu=machine.use_cpu,
        max_tokens=config.training.max_tokens_per_batch,
    )
    data = prepare_datasets(config.data, tokenizer, seed=config.training.seed, keep_examples=True)
    current = stage.open_run("ppo", config, machine, tokenizer, data)
    # What is trained are sampled answers, not the targets of the data.
    current.record.update(mask_samples=[])
    with current.watched() as stop:
        ppo.train(current, rewards, stop)
        stage.finish(current, _results(current.record.content))
    return current.record.content


def _results(record: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    figures = record["final_metrics"]
    lines = []
    before, after = figures.get("eval_reward/total_before"), figures.get("eval_reward/total")
    if after is not None:
        change = f"{before:.4f} -> " if before is not None else ""
        lines.append(
            f"held-out reward: {change}{after:.4f} on {figures['eval_answers']} answers, "
            f"KL from the reference {figures['eval_kl']:.3f} nats per answer"
        )
    if "reward/total" in figures:
        lines.append(
            f"last rollout: reward {figures['reward/total']:.4f}, KL {figures['kl']:.3f} nats per answer, "
            f"{figures['eos_rate']:.0%} of the answers ended by themselves"
        )
    return lines
