"""Reward models: this project against TRL's RewardTrainer, in one run on one machine.

Full fine-tuning on the same 16 pairs from the same first weights, the head's included. Every contender runs
in a process of its own, several times, interleaved.

    ours, trl                 the pairs of the file
    ours_unshared             the same without sharing prompts between the two answers
    long, long_unshared       random pairs with prompts of 768 tokens and answers of 128, here only
    rankings                  random rankings of 8 answers, here only
    plain                     the prompts and answers of these rankings as sequences of their own: as many
                              tokens, without any connection between them

    python benchmarks/bench_reward.py [--data FILE] [--repeats 3] [--model FOLDER] [--only CONTENDER ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from common import StepTimes

    from hf_align.types import ComparisonRow

CONTENDERS = ("ours", "ours_unshared", "trl", "long", "long_unshared", "rankings", "plain")
ANSWERS, RANKED_PROMPT, RANKED_ANSWER = 8, 384, 96


def rankings(model: str) -> list[ComparisonRow]:
    """Two steps of prompts with eight answers each."""
    from preference import ROWS_PER_STEP, random_rows

    return random_rows(model, 2 * ROWS_PER_STEP, RANKED_PROMPT, (RANKED_ANSWER,) * ANSWERS)


def plain(model: str) -> list[ComparisonRow]:
    """The prompts and answers of the rankings, every one as a sequence by itself."""
    from hf_align.types import ComparisonRow, TokenizedRow

    rows = []
    for row in rankings(model):
        prompt = TokenizedRow(row.prefix, np.arange(len(row.prefix)) > 0)
        pieces = (prompt, *row.branches)
        rows.append(ComparisonRow(row.prefix[:0], pieces, -np.arange(len(pieces), dtype=np.float64)))
    return rows


def fresh_model(model_name: str) -> tuple[Any, Any]:
    """(model, tokenizer) with a new head, the same on both sides, and a pad token that is not the EOS."""
    import torch
    from preference import precision_here

    from hf_align.config import ModelConfig
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.pad_token import choose_pad_token
    from hf_align.modeling.reward_model import load_reward_base

    precision, use_cpu = precision_here()
    config = ModelConfig(model_name)
    tokenizer = load_tokenizer(config)
    torch.manual_seed(0)
    model = load_reward_base(config, trainable_base=True, precision=precision, use_cpu=use_cpu)
    choose_pad_token(tokenizer, model)
    return model, tokenizer


def run_ours(rows: list[ComparisonRow], model_name: str, share_prefix: bool, times: StepTimes) -> list[float]:
    """The loss of each step."""
    from preference import precision_here, train_ours, with_warm_up

    from hf_align.modeling.attention.packing_probe import enable_segment_attention
    from hf_align.modeling.heads.reward import install_reward_head
    from hf_align.reward_model.objective import reward
    from hf_align.runs import processes
    from hf_align.training import tasks

    processes.start(use_cpu=precision_here()[1])
    model, _ = fresh_model(model_name)
    if not enable_segment_attention(model):
        raise SystemExit("the benchmark needs a model that can be packed")
    install_reward_head(model)
    objective = partial(reward, centering=0.0)
    task = tasks.comparison_task(objective, packed=True, share_prefix=share_prefix, pad_token_id=0)
    return train_ours(model, task, with_warm_up(rows), times)


def run_trl(rows: list[ComparisonRow], model_name: str, times: StepTimes) -> list[float]:
    """The loss of each step."""
    from preference import train_trl, with_warm_up
    from trl import RewardConfig, RewardTrainer

    names = ("chosen_ids", "rejected_ids")
    table = [
        {name: row.sequence(k).input_ids.tolist() for k, name in enumerate(names)}
        for row in with_warm_up(rows)
    ]
    model, tokenizer = fresh_model(model_name)
    return train_trl(RewardTrainer, RewardConfig, table, times, model=model, processing_class=tokenizer)


def worker(contender: str, data: str, model: str) -> dict[str, Any]:
    """One contender once."""
    from common import StepTimes
    from preference import load_pairs, long_prompts, metrics

    sources: dict[str, Callable[[], list[ComparisonRow]]] = {
        "long": lambda: long_prompts(model),
        "long_unshared": lambda: long_prompts(model),
        "rankings": lambda: rankings(model),
        "plain": lambda: plain(model),
    }
    rows = sources.get(contender, lambda: load_pairs(data, model))()
    times = StepTimes()
    if contender == "trl":
        losses = run_trl(rows, model, times)
    else:
        losses = run_ours(rows, model, not contender.endswith("unshared"), times)
    return metrics(contender, rows, times, losses)


def kwise(median: Callable[[str, str], float]) -> dict[str, float]:
    """``kwise_cost``: a step on rankings over one on as many tokens in sequences of their own."""
    return {"kwise_cost": round(median("rankings", "seconds") / median("plain", "seconds"), 3)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from preference import main

    main("reward", __file__, str(__doc__), CONTENDERS, worker, kwise)
