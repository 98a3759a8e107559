"""What Best-of-N adds to run.json, with and without training."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import Fields, Record, entry


class Samples(Fields):
    """The entry ``best_of_n``: metrics of the answers."""

    prompts: int | None = entry("prompts")
    samples_per_prompt: int | None = entry("answers to each")
    curve: list[Any] = entry("`n`, `reward`, `interval` and `kl_bound` of the best of n")
    rewards: dict[str, Any] = entry("`mean` and `best` of each reward")
    stopped: float | None = entry("share of the answers that ended by themselves")
    tokens: float | None = entry("mean length of an answer")
    distinct: float | None = entry("share of distinct answers to a prompt")
    undecided: float | None = entry("share of the prompts whose answers all have the same reward")
    files: dict[str, Any] = entry("rows of each data set that was written")


class BestOfNRecord(Record):
    """The entries of run.json of ``hf-align best-of-n``."""

    identity: dict[str, Any] = entry("what answers depend on; another one is another run")
    best_of_n: Samples = entry("metrics of the answers")
    best_of_n_samples: list[Any] = entry("some prompts with their best and worst answer")
    rounds: list[Any] = entry("with training: metrics of each round, the start first")
    model_digests: dict[str, Any] = entry("with training: of the weights after each round, by its number")
