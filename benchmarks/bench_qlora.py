"""QLoRA against LoRA: the time and memory of a training step on an NF4 base and on a bf16 base.

The same adapters, the same 2,048 packed tokens (eight sequences of 256, half of them targets), the same
optimizer; each base in a process of its own, several times, interleaved; the first two steps are a warm-up.

    python benchmarks/bench_qlora.py [--repeats 3] [--steps 5] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

SEQUENCES, LENGTH, WARM_UP = 8, 256, 2
BASES: dict[str, dict[str, Any]] = {"bf16": {}, "nf4": {"load_in_4bit": True}}


def worker(base: str, model_name: str, steps: int) -> None:
    """One base once; prints one JSON line with what was measured."""
    import numpy as np
    import torch

    from hf_align.adapters.factory import apply_adapter
    from hf_align.config import AdapterConfig, ModelConfig
    from hf_align.data.packing import pack_rows, to_device
    from hf_align.modeling.attention.packing_probe import enable_segment_attention
    from hf_align.modeling.heads.target import install_target_head
    from hf_align.modeling.loading import load_model
    from hf_align.modeling.precision import compute_dtype, resolve_precision, runs_on_cpu
    from hf_align.runs import processes
    from hf_align.runs.memory import peak_memory_bytes
    from hf_align.training.objectives.causal_lm import causal_lm
    from hf_align.types import TokenizedRow

    use_cpu = runs_on_cpu(False)
    processes.start(use_cpu=use_cpu)
    precision = resolve_precision("auto", use_cpu=use_cpu)
    device = torch.device("cpu" if use_cpu else "cuda")
    config = ModelConfig(model_name, **BASES[base])
    model: Any = load_model(config, trainable_base=False, precision=precision, use_cpu=use_cpu).to(device)
    if not enable_segment_attention(model):
        raise SystemExit("the benchmark needs a model that can be packed")
    install_target_head(model)
    model = apply_adapter(model, AdapterConfig(adapter="lora", lora_r=16)).train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4, fused=True)
    draw = np.random.default_rng(0)
    rows = [
        TokenizedRow(
            draw.integers(3, model.config.vocab_size, LENGTH).astype(np.int32),
            np.arange(LENGTH) >= LENGTH // 2,
        )
        for _ in range(SEQUENCES)
    ]
    batch = to_device(pack_rows(rows), device)
    seconds = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=compute_dtype(precision), enabled=precision != "fp32"):
            loss = causal_lm(model, batch).loss_sum / batch.target_tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if not use_cpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    metrics = {"base": base, "precision": precision, "seconds": seconds, "last_loss": loss.item()}
    metrics["step_seconds"] = statistics.median(seconds[WARM_UP:])
    print(json.dumps(metrics | {"peak_memory_bytes": peak_memory_bytes(device)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--worker", choices=tuple(BASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.model, options.steps)
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from common import run_worker, write_results

    runs: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        for base in BASES:
            runs.append(run_worker(__file__, base, ["--model", options.model, "--steps", str(options.steps)]))
            print(
                f"{repeat + 1}/{options.repeats} {base}: {runs[-1]['step_seconds']:.2f} s a step", flush=True
            )

    def median(base: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["base"] == base)

    summary = {
        "step_ratio": round(median("nf4", "step_seconds") / median("bf16", "step_seconds"), 3),
        "memory_ratio": round(median("nf4", "peak_memory_bytes") / median("bf16", "peak_memory_bytes"), 2),
        "nf4_step_seconds": round(median("nf4", "step_seconds"), 3),
        "bf16_step_seconds": round(median("bf16", "step_seconds"), 3),
    }
    write_results("qlora", {"runs": runs, "tokens": SEQUENCES * LENGTH}, summary)


if __name__ == "__main__":
    main()
