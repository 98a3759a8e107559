"""What watches training: a progress bar, metrics.jsonl, the best evaluation, and early stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_align.runs.metrics import METRICS_FILE, append_metrics


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
            parts = [f"held-out loss {logs['eval_loss']:.4f}"]
            if "eval_perplexity" in logs:
                parts.append(f"perplexity {logs['eval_perplexity']:.2f}")
            if "eval_rewards/accuracies" in logs:
                parts.append(f"accuracy {logs['eval_rewards/accuracies']:.1%}")
            self.bar.write(f"step {state.global_step}: {', '.join(parts)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class MetricsWriter(TrainerCallback):
    """Appends every logged step to ``metrics.jsonl`` in the run folder, on the main process.

    ``earlier_seconds``: how long the run has taken before it was resumed.
    """

    def __init__(self, output_dir: str, *, earlier_seconds: float = 0.0) -> None:
        self.path = Path(output_dir) / METRICS_FILE
        self.started = time.perf_counter() - earlier_seconds

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
            seconds = round(time.perf_counter() - self.started, 3)
            append_metrics(self.path, {"step": state.global_step, "time_seconds": seconds, **logs})


class AtStart(TrainerCallback):
    """Calls ``action`` once training begins: only then is a sharded model on its devices."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.action()


class SaveBest(TrainerCallback):
    """A checkpoint after every evaluation that is the best so far, where a run is to end with that one.

    Trainer remembers the best step whether it has saved it or not, and where not ends with other weights.
    """

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        # Before training there is nothing to save; Trainer notes the best metric after this.
        best, found = state.best_metric, metrics.get("eval_loss")
        if state.global_step and found is not None and (best is None or found < best):
            control.should_save = True


class EarlyStopping(EarlyStoppingCallback):
    """Stops after ``patience`` evaluations without a lower loss; a resumed run goes on counting."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        entry = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.early_stopping_patience_counter = entry["attributes"]["early_stopping_patience_counter"]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class OptimizerMode(TrainerCallback):
    """Between steps the weights are those of the model, to be evaluated and saved.

    The schedule-free optimizers train at another point, to which the step that follows goes back
    (``AlignTrainer.training_step``).
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs.get("optimizer")
        if callable(getattr(optimizer, "eval", None)):
            optimizer.eval()
