"""What watches training: a progress bar for people and metrics.jsonl for programs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from hf_align.reporting.metrics import METRICS_FILE, append_metrics


class ProgressBar(TrainerCallback):
    """Steps done, time left, loss and tokens per second; evaluations get a line of their own."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if self.bar is None or not logs:
            return
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}, {logs['tokens_per_second']:,.0f} tokens/s")
        elif "eval_loss" in logs:
            self.bar.write(
                f"step {state.global_step}: held-out loss {logs['eval_loss']:.4f}, "
                f"perplexity {logs['eval_perplexity']:.2f}"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class MetricsWriter(TrainerCallback):
    """Appends every logged step to ``metrics.jsonl`` in the run folder, on the main process."""

    def __init__(self, output_dir: str) -> None:
        self.path = Path(output_dir) / METRICS_FILE
        self.started = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
            seconds = round(time.perf_counter() - self.started, 3)
            append_metrics(self.path, {"step": state.global_step, "time_seconds": seconds, **logs})
