"""What PPO adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Record, entry


class Reference(Fields):
    """The entry ``reference``."""

    kind: str = entry("`frozen copy` or `adapter switched off`")
    model: str = entry("its path or hub id")


class StartCheckEntry(Fields):
    """The entry ``start_check``."""

    kl_at_start: dict[str, Any] = entry("`mean`, `largest` and `allowed` in nats per token")


class RewardCheck(Fields):
    """The entry ``reward_check``: whether the reward can tell answers apart."""

    pairs: dict[str, Any] = entry("each reward model's accuracy on compared answers")
    scores: dict[str, Any] = entry("the distribution of the first answers' scores, by reward")
    warnings: list[Any] = entry("what the log warned of")


class RewardWatch(Fields):
    """The entry ``reward_watch``."""

    rewards: list[Any] = entry("names of the rewards that are watched and not trained on")
    action: str = entry("`watch_action` of the recipe")
    alarms: list[Any] = entry("what fired, with its rollout, curves and sample answers")
    ended: dict[str, Any] = entry("`action`, `rollout` and `checkpoint` where the watch ended the run")


class PpoRecord(Record):
    """The entries of run.json of ``hf-align ppo``."""

    reference: Reference = entry("the policy that the KL penalty is measured from")
    start_check: StartCheckEntry = entry("how far policy and reference differed before the first update")
    reward_check: RewardCheck = entry("whether the reward can tell answers apart")
    reward_watch: RewardWatch = entry("the reward-hacking watch and its evidence")
    vllm: dict[str, Any] = entry("the server that samples, and how its log-probabilities differed")
