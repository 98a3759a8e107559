"""Adapter methods on one task and one budget: what each trains, needs, does in a second, learns, and weighs.

Every method fine-tunes the same model on the same rows in the same order, the same rows a step and the same
number of steps, through the command that users run, in a process of its own, several times, interleaved.
Measured are trained parameters; the peak of resident memory while training above that of the loaded model
(weights, adapter and data in memory, nothing run); tokens a second without the first two steps; the loss on
held-out rows after training; and the size of what is saved. On a GPU memory is what PyTorch has allocated.

``ladder_cached`` reads the model's states from the disk, as every epoch after the one pass over the rows
does; that pass is made by an earlier process, and its time is among the raw figures. Learning rates are those
of the table METHODS, one for each method, chosen by hand.

    python benchmarks/bench_adapters.py [--data FILE] [--repeats 1] [--steps 16] [--only lora ladder …]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS_PER_STEP, WARM_UP, HELD_OUT = 16, 2, 100
OWN_DATA = (("data/orders_en.jsonl", 0.75), ("data/orders_zh.jsonl", 0.25))
OWN_HELD_OUT = "data/orders_heldout.jsonl"
METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 2e-4},
    "lora": {"adapter": "lora", "learning_rate": 2e-3},
    "qlora": {"adapter": "qlora", "load_in_4bit": True, "learning_rate": 2e-3},
    "bottleneck": {"adapter": "bottleneck", "learning_rate": 2e-3},
    "ladder": {"adapter": "ladder", "learning_rate": 5e-3},
    "ladder_cached": {"adapter": "ladder", "ladder_cache": True, "learning_rate": 5e-3},
    "ia3": {"adapter": "ia3", "learning_rate": 2e-2},
    "ln_tuning": {"adapter": "ln_tuning", "learning_rate": 1e-2},
    "prompt": {"adapter": "prompt", "learning_rate": 3e-2},
    "prefix": {"adapter": "prefix", "learning_rate": 3e-2},
}
"""Recipe keys of each method; ``ladder_cached`` reads the model's states from disk in every step."""


def recipe(method: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The keys of the recipe that ``method`` is run with."""
    from hf_align.config import DatasetConfig

    # No more rows than are trained on: the states of all of them are kept.
    rows = options.steps * ROWS_PER_STEP
    data: dict[str, Any] = {"eval_datasets": [OWN_HELD_OUT]}
    sources = [{"path": path, "max_rows": round(rows * share)} for path, share in OWN_DATA]
    if options.data:
        sources = [{"path": options.data, "max_rows": rows + HELD_OUT}]
        data = {"eval_split_size": HELD_OUT}
    data["datasets"] = [DatasetConfig.from_entry(source) for source in sources]
    return {
        "model_name_or_path": options.model,
        **data,
        "max_length": options.max_length,
        "overlong": "truncate",
        "dataset_cache_dir": str(folder),
        "output_dir": str(folder / method),
        "max_steps": options.steps,
        "per_device_train_batch_size": ROWS_PER_STEP,
        "warmup_steps": 0.1,
        "save_strategy": "no",
        "num_samples": 0,
        **METHODS[method],
    }


def worker(method: str, options: argparse.Namespace) -> None:
    """One method once; prints one JSON line with what was measured."""
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from common import MemoryWatch

    from hf_align.commands import sft
    from hf_align.sft.recipe import SftConfig
    from hf_align.training import stage

    folder = Path(options.folder or tempfile.mkdtemp())
    config = SftConfig.from_flat(recipe(method, options, folder))
    figures: dict[str, Any] = {"method": method, "learning_rate": config.training.learning_rate}
    run_stage = stage.train

    def measured(run: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """The training of the command, watched; held-out rows are looked at afterwards alone."""
        held_out, device = run.data.eval, trainer.args.device
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, eval=[]))
        times = Steps(trainer)
        trainer.add_callback(times.callback)
        before = allocated(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with MemoryWatch(seconds=0.01) as watch:
            run_stage(run, trainer, *args, **kwargs)
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else watch.peak_bytes
        figures.update(
            memory_above_model_bytes=peak - before,
            seconds=times.seconds,
            tokens=times.tokens,
            tokens_per_second=sum(times.tokens[WARM_UP:]) / sum(times.seconds[WARM_UP:]),
            step_seconds=statistics.median(times.seconds[WARM_UP:]),
            held_out_loss=trainer.evaluate(held_out)["eval_loss"],
        )

    stage.train = measured  # type: ignore[assignment]
    record = sft.run(config)
    saved = [path for path in (folder / method).glob("*.safetensors")]
    figures |= {
        "trained_parameters": record["model"]["trainable_parameters"],
        "attention": record["model"]["attention"],
        "precision": record["model"]["precision"],
        "artefact_bytes": sum(path.stat().st_size for path in saved),
        "states": record.get("ladder_states"),
    }
    print(json.dumps(figures))


def allocated(device: Any) -> int:
    """Memory of this process now: resident, or allocated on the GPU."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    resident: int = psutil.Process().memory_info().rss
    return resident


class Steps:
    """Seconds and tokens of every optimizer step."""

    def __init__(self, trainer: Any) -> None:
        from transformers import TrainerCallback

        steps = self

        class Callback(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                steps._begun = (time.perf_counter(), trainer.sums.total["tokens"])

            def on_step_end(self, *_: Any, **__: Any) -> None:
                begun, tokens = steps._begun
                steps.seconds.append(time.perf_counter() - begun)
                steps.tokens.append(int(trainer.sums.total["tokens"] - tokens))

        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self._begun = (0.0, 0.0)
        self.callback = Callback()


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown, in the order of METHODS."""
    lines = [
        "| method | trained parameters | memory above the model | tokens/s | held-out loss | artefact |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['method']} | {row['trained_parameters']:,} | "
            f"{row['memory_above_model_bytes'] / 2**20:,.0f} MiB | {row['tokens_per_second']:,.0f} | "
            f"{row['held_out_loss']:.3f} | {row['artefact_bytes'] / 1e6:,.1f} MB |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Held-out loss over memory, and over speed; the size of a dot is that of what is saved."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for axis, key, unit, label in (
        (axes[0], "memory_above_model_bytes", 2**20, "peak memory above the loaded model (MiB), log scale"),
        (axes[1], "tokens_per_second", 1, "tokens a second, log scale"),
    ):
        for number, row in enumerate(rows):
            x, y = row[key] / unit, row["held_out_loss"]
            size = 30 + 12 * (row["artefact_bytes"] / 1e6) ** 0.5
            colour = f"C{number}"
            axis.scatter(x, y, s=size, alpha=0.75, color=colour)
            # Neighbours take turns above and below, each in the colour of its dot.
            axis.annotate(
                row["method"],
                (x, y),
                xytext=(0, 10 if number % 2 else -18),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=colour,
            )
        axis.set(xscale="log", xlabel=label)
        axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_minor_formatter(lambda *_: "")
        axis.margins(0.15)
        axis.grid(alpha=0.3, which="both")
    axes[0].set(ylabel="held-out loss (nats a token), log scale", yscale="log")
    figure.suptitle("Left is less memory, right is faster, down is better; larger dots are larger artefacts")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", help=f"one file, {HELD_OUT} rows of which are held out (default: the quickstart's)"
    )
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--folder", help="keep runs and states here")
    parser.add_argument("--worker", choices=tuple(METHODS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options)
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from common import RESULTS, run_worker, write_results

    arguments = ["--model", options.model, "--steps", str(options.steps)]
    arguments += [
        "--max_length",
        str(options.max_length),
        *(["--data", options.data] if options.data else []),
    ]
    runs: list[dict[str, Any]] = []
    folder = options.folder or tempfile.mkdtemp()
    arguments += ["--folder", folder]
    making: dict[str, Any] | None = None
    for repeat in range(options.repeats):
        for method in options.only:
            if METHODS[method].get("ladder_cache") and repeat == 0:
                # In a process of its own, which leaves nothing behind but the states on the disk.
                making = run_worker(__file__, method, arguments)["states"]
            runs.append(run_worker(__file__, method, arguments))
            row = runs[-1]
            print(
                f"{repeat + 1}/{options.repeats} {method}: {row['tokens_per_second']:.0f} tokens/s, "
                f"{row['memory_above_model_bytes'] / 2**20:.0f} MiB above the model, held-out loss "
                f"{row['held_out_loss']:.4f}",
                flush=True,
            )
    keys = ("tokens_per_second", "step_seconds", "memory_above_model_bytes", "held_out_loss")
    rows = []
    for method in options.only:
        mine = [run for run in runs if run["method"] == method]
        rows.append(mine[-1] | {key: statistics.median(run[key] for run in mine) for key in keys})
    by_name = {row["method"]: row for row in rows}
    summary: dict[str, float | int | str] = {}
    if "lora" in by_name and "ladder" in by_name:
        summary["ladder_memory_ratio"] = ratio(by_name, "ladder", "lora", "memory_above_model_bytes")
        summary["ladder_speed"] = ratio(by_name, "lora", "ladder", "step_seconds")
    if "lora" in by_name and "ladder_cached" in by_name:
        summary["ladder_cached_memory_ratio"] = ratio(
            by_name, "ladder_cached", "lora", "memory_above_model_bytes"
        )
        summary["ladder_cached_speed"] = ratio(by_name, "lora", "ladder_cached", "step_seconds")
    summary |= {f"{row['method']}_loss": round(row["held_out_loss"], 4) for row in rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "adapters.md").write_text(table(rows) + "\n", encoding="utf-8")
    draw(rows, RESULTS / "adapters.png")
    print(table(rows))
    write_results(
        "adapters", {"runs": runs, "steps": options.steps, "data": options.data, "states": making}, summary
    )


def ratio(rows: dict[str, dict[str, Any]], one: str, other: str, key: str) -> float:
    return round(rows[one][key] / rows[other][key], 3)


if __name__ == "__main__":
    main()
