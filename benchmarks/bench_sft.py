"""Supervised fine-tuning: this project against TRL's SFTTrainer, in one run on one machine.

Both train all weights of the same model on the same 64 rows, with the same targets, the same 8 rows a step
in the same order, bf16 autocast where the machine is fast at it, the same optimizer and no gradient
checkpointing. TRL runs in three set-ups: padded (its default), grouped by length (other rows a step) and
packed (its padding-free collator). Every contender runs in a process of its own, several times, interleaved;
the first step, on the batch with the most tokens, is a warm-up and is not counted. Throughput counts real
tokens.

    python benchmarks/bench_sft.py [--data FILE] [--repeats 3] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common import StepTimes

ROWS, ROWS_PER_STEP, MAX_LENGTH = 64, 8, 1024
CONTENDERS = ("ours", "trl_padded", "trl_grouped", "trl_packed")


def load_rows(data: str, model: str) -> list[Any]:
    """The largest batch once as a warm-up, then the 64 rows in the order of the file."""
    from hf_align.config import DataConfig, DatasetConfig, ModelConfig
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer

    config = DataConfig(
        datasets=[DatasetConfig(path=data, max_rows=ROWS)], max_length=MAX_LENGTH, overlong="truncate"
    )
    rows = list(prepare_datasets(config, load_tokenizer(ModelConfig(model)), seed=0).train)
    if len(rows) != ROWS:
        raise SystemExit(f"{data}: the benchmark needs {ROWS} rows, found {len(rows)}")
    batches = [rows[i : i + ROWS_PER_STEP] for i in range(0, len(rows), ROWS_PER_STEP)]
    return max(batches, key=lambda batch: sum(map(len, batch))) + rows


def run_ours(rows: list[Any], model_name: str, precision: str, times: StepTimes) -> tuple[list[int], float]:
    """Tokens of each step, and the last loss."""
    from torch.utils.data import DataLoader

    from hf_align.config import ModelConfig, TrainingConfig
    from hf_align.modeling.attention.packing_probe import enable_segment_attention
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.modeling.precision import runs_on_cpu
    from hf_align.runs import processes
    from hf_align.training import arguments, tasks, trainer

    use_cpu = runs_on_cpu(False)
    processes.start(use_cpu=use_cpu)

    class InOrder(trainer.AlignTrainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(rows, batch_size=ROWS_PER_STEP, collate_fn=list)

    model = load_model(ModelConfig(model_name), trainable_base=True, precision=precision, use_cpu=use_cpu)
    if not enable_segment_attention(model):
        raise SystemExit("the benchmark needs a model that can be packed")
    install_target_head(model)
    config = TrainingConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=ROWS_PER_STEP, save_strategy="no"
    )
    args = arguments.training_arguments(
        config, precision=precision, use_cpu=use_cpu, steps_per_epoch=len(rows) // ROWS_PER_STEP
    )
    run = InOrder(
        model=model,
        args=args,
        train_dataset=rows,
        max_tokens_per_batch=config.max_tokens_per_batch,
        callbacks=[times.callback],
        task=tasks.language_model_task(packed=True, pad_token_id=0),
    )
    run.train()
    tokens = [sum(map(len, rows[i : i + ROWS_PER_STEP])) for i in range(0, len(rows), ROWS_PER_STEP)]
    return tokens, run.state.log_history[-2]["loss"]


def run_trl(
    contender: str, rows: list[Any], model_name: str, precision: str, times: StepTimes
) -> tuple[list[int], float]:
    """Tokens of each step, and the last loss."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from hf_align.config import ModelConfig
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.precision import runs_on_cpu

    table = Dataset.from_list(
        [
            {
                "input_ids": row.input_ids.tolist(),
                "labels": [
                    int(i) if t else -100 for i, t in zip(row.input_ids, row.target_mask, strict=True)
                ],
            }
            for row in rows
        ]
    )
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=ROWS_PER_STEP,
        num_train_epochs=1,
        bf16=precision == "bf16",
        use_cpu=runs_on_cpu(False),
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        learning_rate=2e-5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        max_length=None,  # the rows are cut already
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=contender == "trl_packed",
        train_sampling_strategy="group_by_length" if contender == "trl_grouped" else "sequential",
        disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"},
    )
    run = SFTTrainer(
        model_name,
        args=config,
        train_dataset=table,
        processing_class=load_tokenizer(ModelConfig(model_name)),
        callbacks=[times.callback],
    )
    tokens: list[int] = []
    collate = run.data_collator

    def counting(examples: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(example["input_ids"]) for example in examples))
        return collate(examples)

    run.data_collator = counting
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return tokens, losses[-1]


def worker(contender: str, data: str, model: str) -> None:
    """One contender once; prints one JSON line with what was measured."""
    import torch
    from common import StepTimes

    from hf_align.modeling.precision import resolve_precision, runs_on_cpu
    from hf_align.runs.memory import peak_memory_bytes

    precision = resolve_precision("auto", use_cpu=runs_on_cpu(False))
    rows = load_rows(data, model)
    times = StepTimes()
    run = run_ours if contender == "ours" else lambda *a: run_trl(contender, *a)
    tokens, loss = run(rows, model, precision, times)
    seconds = [end - begin for begin, end in zip(times.begun, times.ended, strict=True)]
    tokens = tokens[: len(seconds)]
    device = torch.device("cpu" if runs_on_cpu(False) else "cuda")
    print(
        json.dumps(
            {
                "contender": contender,
                "precision": precision,
                "tokens": tokens,
                "seconds": seconds,
                "tokens_per_second": sum(tokens[1:]) / sum(seconds[1:]),
                "peak_memory_bytes": peak_memory_bytes(device),
                "last_loss": loss,
                "flops_per_second": flops(rows[ROWS_PER_STEP:], model) / sum(seconds[1:]),
            }
        )
    )


def flops(rows: list[Any], model_name: str) -> float:
    """Operations that training on these rows needs: matrix products with weights, and causal attention.

    6 per weight and token in the trunk, 6 per weight of the head and target, 12 * L^2 / 2 * width a layer for
    attention (arXiv 2001.08361, section 2.1, with the causal half).
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_name)
    import torch

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = sum(m.weight.numel() for m in model.base_model.modules() if isinstance(m, torch.nn.Linear))
    head = config.vocab_size * config.hidden_size
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    tokens = sum(len(row) for row in rows)
    targets = sum(row.target_tokens for row in rows)
    squares = sum(len(row) ** 2 for row in rows)
    return 6 * (weights * tokens + head * targets) + 6 * squares * width * config.num_hidden_layers


def matmul_peak() -> float:
    """Operations a second of a large square matrix product in the benchmark's precision, the best of ten."""
    import torch

    from hf_align.modeling.precision import compute_dtype, resolve_precision, runs_on_cpu

    use_cpu = runs_on_cpu(False)
    dtype = compute_dtype(resolve_precision("auto", use_cpu=use_cpu))
    size = 4096 if use_cpu else 16384
    a, b = (torch.randn(size, size, dtype=dtype, device="cpu" if use_cpu else "cuda") for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        if not use_cpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="data/orders_en.jsonl")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.data, options.model)
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from common import run_worker, write_results

    runs: list[dict[str, Any]] = []
    peak = matmul_peak()
    for repeat in range(options.repeats):
        for contender in CONTENDERS:
            runs.append(run_worker(__file__, contender, ["--data", options.data, "--model", options.model]))
            speed, memory = runs[-1]["tokens_per_second"], runs[-1]["peak_memory_bytes"] / 2**30
            print(
                f"{repeat + 1}/{options.repeats} {contender}: {speed:.0f} tokens/s, {memory:.2f} GiB",
                flush=True,
            )

    def median(contender: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["contender"] == contender)

    speeds = {contender: median(contender, "tokens_per_second") for contender in CONTENDERS}
    best = max(("trl_padded", "trl_grouped", "trl_packed"), key=lambda contender: speeds[contender])
    summary = {
        "ratio_default": round(speeds["ours"] / speeds["trl_padded"], 2),
        "ratio_best": round(speeds["ours"] / speeds[best], 2),
        "memory_ratio": round(
            median("ours", "peak_memory_bytes") / median("trl_padded", "peak_memory_bytes"), 2
        ),
        "peak_share": round(median("ours", "flops_per_second") / peak, 2),
        **{f"{contender}_tokens_per_second": round(speed, 1) for contender, speed in speeds.items()},
    }
    write_results("sft", {"runs": runs, "matmul_peak_flops": peak, "data": options.data}, summary)


if __name__ == "__main__":
    main()
