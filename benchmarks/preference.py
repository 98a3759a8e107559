"""What the benchmarks of DPO and of reward models share: rows, settings, metrics, and the summary.

Both sides train all weights on the same pairs in the same order, four a step, with the same optimizer, bf16
autocast where the machine is fast at it, and no gradient checkpointing. The first step, on the largest batch,
is a warm-up and is not counted. Tokens are those of the pairs as separate sequences, each with its prompt, on
either side, so that tokens and pairs per second give the same ratio.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from common import StepTimes

    from hf_align.types import ComparisonRow

Median = Callable[[str, str], float]
"""(contender, key of its metrics) to the median over its runs."""

PAIRS, ROWS_PER_STEP, MAX_LENGTH = 16, 4, 1024
LONG_PROMPT, LONG_ANSWER = 768, 128
LEARNING_RATE = 1e-6


def load_pairs(data: str, model: str) -> list[ComparisonRow]:
    """The first 16 pairs of ``data`` that answer one single turn and fit 1,024 tokens, in its order."""
    from hf_align.config import DataConfig, DatasetConfig, ModelConfig
    from hf_align.data.prepare import prepare_datasets
    from hf_align.modeling.loading import load_tokenizer

    # As rows to evaluate on, which keep the conversations that they were made of.
    source = [DatasetConfig(path=data)]
    config = DataConfig(datasets=source, eval_datasets=source, max_length=MAX_LENGTH, overlong="drop")
    prepared = prepare_datasets(config, load_tokenizer(ModelConfig(model)), seed=0, comparisons=True)
    rows = []
    for row, comparison in zip(prepared.eval, prepared.eval_examples, strict=True):
        turns = () if isinstance(comparison.prompt, str) else comparison.prompt
        if len(row.branches) == 2 and not any(turn.role == "assistant" for turn in turns):
            rows.append(_ended(row))
        if len(rows) == PAIRS:
            return rows
    raise SystemExit(f"{data}: the benchmark needs {PAIRS} single-turn pairs, found {len(rows)}")


def _ended(row: ComparisonRow) -> ComparisonRow:
    """The row without what follows its answers, such as a template's line break: TRL would train on it."""
    branches = []
    for branch in row.branches:
        end = int(np.flatnonzero(branch.target_mask)[-1]) + 1
        kept = {"input_ids": branch.input_ids[:end], "target_mask": branch.target_mask[:end]}
        branches.append(dataclasses.replace(branch, **kept))
    return dataclasses.replace(row, branches=tuple(branches))


def random_rows(model: str, number: int, prompt: int, answers: Sequence[int]) -> list[ComparisonRow]:
    """Rows of random tokens: a prompt and answers of these lengths, best first."""
    from transformers import AutoConfig

    from hf_align.types import ComparisonRow, TokenizedRow

    draw = np.random.default_rng(0)
    vocabulary = AutoConfig.from_pretrained(model).vocab_size

    def tokens(count: int) -> Any:
        return draw.integers(3, vocabulary, count).astype(np.int32)

    rows = []
    for _ in range(number):
        shared = tokens(prompt)
        branches = tuple(
            # A branch begins with the last token of the prompt.
            TokenizedRow(np.concatenate([shared[-1:], tokens(count)]), np.arange(count + 1) > 0)
            for count in answers
        )
        rows.append(ComparisonRow(shared[:-1], branches, -np.arange(len(answers), dtype=np.float64)))
    return rows


def long_prompts(model: str) -> list[ComparisonRow]:
    """Two steps of pairs with a prompt of 768 tokens and answers of 128."""
    return random_rows(model, 2 * ROWS_PER_STEP, LONG_PROMPT, (LONG_ANSWER, LONG_ANSWER))


def with_warm_up(rows: list[ComparisonRow]) -> list[ComparisonRow]:
    """The step with the most tokens first, then all rows."""
    steps = [rows[i : i + ROWS_PER_STEP] for i in range(0, len(rows), ROWS_PER_STEP)]
    return max(steps, key=lambda step: sum(map(len, step))) + rows


def separate_tokens(rows: list[ComparisonRow]) -> int:
    """Tokens of the answers as separate sequences, each with its prompt."""
    return sum(len(row.sequence(k)) for row in rows for k in range(len(row.branches)))


def precision_here() -> tuple[Any, bool]:
    """(precision, whether on a CPU) of both sides."""
    from hf_align.modeling.precision import resolve_precision, runs_on_cpu

    use_cpu = runs_on_cpu(False)
    return resolve_precision("auto", use_cpu=use_cpu), use_cpu


def train_ours(model: Any, task: Any, rows: list[ComparisonRow], times: StepTimes) -> list[float]:
    """Train on ``rows`` in their order; the loss of each step."""
    from torch.utils.data import DataLoader

    from hf_align.config import TrainingConfig
    from hf_align.training import arguments, trainer

    class InOrder(trainer.AlignTrainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(rows, batch_size=ROWS_PER_STEP, collate_fn=list)

    config = TrainingConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=ROWS_PER_STEP,
        learning_rate=LEARNING_RATE,
        save_strategy="no",
    )
    precision, use_cpu = precision_here()
    steps = len(rows) // ROWS_PER_STEP
    run = InOrder(
        model=model,
        args=arguments.training_arguments(
            config, precision=precision, use_cpu=use_cpu, steps_per_epoch=steps
        ),
        train_dataset=rows,
        max_tokens_per_batch=config.max_tokens_per_batch,
        callbacks=[times.callback],
        task=task,
    )
    run.train()
    return _losses(run)


def train_trl(
    trainer_class: Any, config_class: Any, table: list[dict[str, Any]], times: StepTimes, **options: Any
) -> list[float]:
    """TRL's trainer with the same settings; the loss of each step.

    ``table``: rows of token ids. ``options``: ``settings`` for the configuration, the rest for the trainer.
    """
    from datasets import Dataset

    class Tokenised(trainer_class):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    precision, use_cpu = precision_here()
    config = config_class(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=ROWS_PER_STEP,
        num_train_epochs=1,
        bf16=precision == "bf16",
        use_cpu=use_cpu,
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        max_length=None,  # the rows fit already
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        **options.pop("settings", {}),
    )
    dataset = Dataset.from_list(table)
    run = Tokenised(args=config, train_dataset=dataset, callbacks=[times.callback], **options)
    run.train()
    return _losses(run)


def _losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def metrics(
    contender: str,
    rows: list[ComparisonRow],
    times: StepTimes,
    losses: list[float],
    *,
    beforehand: float = 0.0,
) -> dict[str, Any]:
    """What was measured on ``rows``, without the warm-up. ``beforehand``: seconds spent before the steps."""
    import torch

    from hf_align.runs.memory import peak_memory_bytes

    precision, use_cpu = precision_here()
    steps = [end - begin for begin, end in zip(times.begun, times.ended, strict=True)]
    seconds = beforehand + sum(steps[1:])
    return {
        "contender": contender,
        "precision": precision,
        "step_seconds": steps,
        "seconds_before_the_steps": beforehand,
        "seconds": seconds,
        "rows": len(rows),
        "tokens": separate_tokens(rows),
        "tokens_per_second": separate_tokens(rows) / seconds,
        "pairs_per_second": len(rows) / seconds,
        "peak_memory_bytes": peak_memory_bytes(torch.device("cpu" if use_cpu else "cuda")),
        "losses": losses,
    }


def main(
    name: str,
    script: str,
    description: str,
    contenders: Sequence[str],
    worker: Callable[[str, str, str], dict[str, Any]],
    more: Callable[[Median], dict[str, float]] | None = None,
) -> None:
    """The command line, the runs in turn, and the summary.

    ``worker``: (contender, data, model) to its metrics. ``more``: further keys of the summary from medians.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="data/pairs_en.jsonl", help="pairs; default: %(default)s")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=contenders,
        default=contenders,
        help="leave out the others, and the summary",
    )
    parser.add_argument("--worker", choices=contenders, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker, options.data, options.model)))
        return
    from common import run_worker, write_results

    runs: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        for contender in options.only:
            runs.append(run_worker(script, contender, ["--data", options.data, "--model", options.model]))
            memory = runs[-1]["peak_memory_bytes"] / 2**30
            print(
                f"{repeat + 1}/{options.repeats} {contender}: {runs[-1]['tokens_per_second']:.0f} tokens/s, "
                f"{runs[-1]['pairs_per_second']:.3f} rows/s, {memory:.2f} GiB",
                flush=True,
            )

    def median(contender: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["contender"] == contender)

    if set(options.only) == set(contenders):
        raw = {"runs": runs, "data": options.data, "model": options.model}
        write_results(name, raw, _summary(median, more))


def _summary(
    median: Median, more: Callable[[Median], dict[str, float]] | None
) -> dict[str, float | int | str]:
    def faster(one: str, other: str) -> float:
        return round(median(one, "pairs_per_second") / median(other, "pairs_per_second"), 2)

    memory = median("ours", "peak_memory_bytes") / median("trl", "peak_memory_bytes")
    summary: dict[str, float | int | str] = {
        "ratio": faster("ours", "trl"),
        "memory_ratio": round(memory, 2),
        "prefix_gain": faster("ours", "ours_unshared"),
        "long_prompt_gain": faster("long", "long_unshared"),
        "long_prompt_token_ratio": round(
            2 * (LONG_PROMPT + LONG_ANSWER) / (LONG_PROMPT + 2 * LONG_ANSWER), 2
        ),
    }
    for contender in ("ours", "trl"):
        summary[f"{contender}_tokens_per_second"] = round(median(contender, "tokens_per_second"), 1)
        summary[f"{contender}_pairs_per_second"] = round(median(contender, "pairs_per_second"), 3)
    return summary | (more(median) if more else {})
