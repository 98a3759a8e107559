"""DPO: this project against TRL's DPOTrainer, in one run on one machine.

Full fine-tuning on the same 16 pairs, the reference included on both sides. TRL keeps its default, a second
model in memory that is run in every step. Here the reference's log-probabilities are computed before the
first step (nothing is read from a cache), and that time is counted. Every contender runs in a process of its
own, several times, interleaved.

    ours, trl                 the pairs of the file
    ours_unshared             the same without sharing prompts between the two answers
    long, long_unshared       random pairs with prompts of 768 tokens and answers of 128, here only

    python benchmarks/bench_dpo.py [--data FILE] [--repeats 3] [--model FOLDER] [--only CONTENDER ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common import StepTimes

    from hf_align.types import ComparisonRow

CONTENDERS = ("ours", "ours_unshared", "trl", "long", "long_unshared")
BETA = 0.1


def run_ours(
    rows: list[ComparisonRow], model_name: str, share_prefix: bool, times: StepTimes
) -> tuple[list[float], float]:
    """The loss of each step, and the seconds that the reference took on ``rows``."""
    import torch
    from preference import ROWS_PER_STEP, precision_here, train_ours, with_warm_up

    from hf_align.config import ModelConfig, TrainingConfig
    from hf_align.modeling.attention.packing_probe import enable_segment_attention
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.preference.objective import PreferenceObjective, loss_terms
    from hf_align.preference.reference import ReferencedRows, ReferencePass, reference_logps, target_ends
    from hf_align.runs import processes
    from hf_align.training import tasks

    precision, use_cpu = precision_here()
    processes.start(use_cpu=use_cpu)
    device = torch.device("cpu" if use_cpu else "cuda")
    config = ModelConfig(model_name)
    model = load_model(config, trainable_base=True, precision=precision, use_cpu=use_cpu).to(device)
    if not enable_segment_attention(model):
        raise SystemExit("the benchmark needs a model that can be packed")
    install_target_head(model)
    objective = PreferenceObjective(
        loss_terms(["dpo"], None, {"beta": BETA, "label_smoothing": 0.0}), beta=BETA
    )
    task = tasks.comparison_task(objective, packed=True, share_prefix=share_prefix, pad_token_id=0)
    how = ReferencePass(task.collate, False, TrainingConfig().max_tokens_per_batch, precision, device)
    reference_logps(model, with_warm_up(rows)[:ROWS_PER_STEP], how, show=False)
    begun = time.perf_counter()
    logps = reference_logps(model, rows, how, show=False)
    seconds = time.perf_counter() - begun
    starts = target_ends(rows) - [row.target_tokens for row in rows]
    referenced = list(ReferencedRows(rows, logps, starts))
    return train_ours(model, task, with_warm_up(referenced), times), seconds


def run_trl(rows: list[ComparisonRow], model_name: str, times: StepTimes) -> list[float]:
    """The loss of each step."""
    from preference import train_trl, with_warm_up
    from trl import DPOConfig, DPOTrainer

    from hf_align.config import ModelConfig
    from hf_align.modeling.loading import load_tokenizer

    table = [
        {
            "prompt_ids": [*row.prefix.tolist(), int(row.branches[0].input_ids[0])],
            "chosen_ids": row.branches[0].input_ids[1:].tolist(),
            "rejected_ids": row.branches[1].input_ids[1:].tolist(),
        }
        for row in with_warm_up(rows)
    ]
    return train_trl(
        DPOTrainer,
        DPOConfig,
        table,
        times,
        model=model_name,
        processing_class=load_tokenizer(ModelConfig(model_name)),
        settings={"beta": BETA, "model_init_kwargs": {"dtype": "float32"}},
    )


def worker(contender: str, data: str, model: str) -> dict[str, Any]:
    """One contender once."""
    from common import StepTimes
    from preference import load_pairs, long_prompts, metrics

    rows = long_prompts(model) if contender.startswith("long") else load_pairs(data, model)
    times = StepTimes()
    if contender == "trl":
        return metrics(contender, rows, times, run_trl(rows, model, times))
    losses, reference_seconds = run_ours(rows, model, not contender.endswith("unshared"), times)
    return metrics(contender, rows, times, losses, beforehand=reference_seconds)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from preference import main

    main("dpo", __file__, str(__doc__), CONTENDERS, worker)
