"""PPO: this project against TRL 1.12, the last release that has it, in one run on one machine.

The same prompts in the same chat template, at most 96 tokens each; up to 64 new tokens at temperature 0.7;
16 answers a rollout, four passes over them with one optimizer step each; LoRA of rank 16 on all linear
layers; the same model as policy, value and reward, the reward's head drawn once and read by both; constant
learning rate, AdamW, KL coefficient and clipping alike. No evaluation, no sample answers and no saved
checkpoints on either side. bf16 where the machine is fast at it, but for the second set-up of TRL:

    ours            values from a head on the policy's trunk (the default)
    ours_separate   values from a second model with an adapter of its own, as TRL has it
    trl_best        TRL as fast as we could make it: models in bf16 and mixed precision, no gradient
                    checkpointing, an adapter on the value model too, a fused optimizer
    trl_default     TRL by its own defaults: float32 weights, gradient checkpointing, all of the value model
                    trained. It computes in float32 throughout: its ``bf16=True`` changes nothing, since
                    its trainer takes mixed precision from an environment variable that transformers 5
                    does not set (``mixed_precision`` of the raw metrics)

TRL is installed into benchmarks/.trl-1.12 and seen by its contenders alone; everything else (PyTorch,
transformers, PEFT) is the same on both sides.

Every contender runs in a process of its own, several times if asked, interleaved. Seconds are those of
training, without loading models; peak memory is the whole process's.

    python benchmarks/bench_ppo.py [--data FILE] [--repeats 1] [--model FOLDER] [--only CONTENDER ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ppo_peer import (
    ADAM_EPSILON,
    KL_COEF,
    LEARNING_RATE,
    NEW_TOKENS,
    PASSES,
    PROMPTS,
    RANK,
    REWARD,
    ROLLOUT,
    TEMPERATURE,
    TRL_FOLDER,
    install_trl,
    run_trl,
)

CONTENDERS = ("ours", "ours_separate", "trl_best", "trl_default")
TARGETS = {"ratio_default": 3.0, "memory_ratio": 0.4}


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write what both sides read: the prompts, as rows and as tokens, and the reward model."""
    import torch
    from prompts import as_row, lengths, short_prompts

    from hf_align.config import ModelConfig
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.modeling.pad_token import choose_pad_token
    from hf_align.modeling.reward_model import load_reward_base

    prompts = short_prompts(options.data, options.model, options.episodes)
    lines = [json.dumps(as_row(prompt), ensure_ascii=False) for prompt in prompts]
    (folder / PROMPTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = ModelConfig(options.model)
    reward = load_reward_base(config, trainable_base=False, precision="bf16", use_cpu=True)
    tokenizer = load_tokenizer(config)
    choose_pad_token(tokenizer, reward)
    reward.float().save_pretrained(folder / REWARD)
    tokenizer.save_pretrained(folder / REWARD)
    return {"prompt_ids": [list(prompt.ids) for prompt in prompts], "prompt_tokens": lengths(prompts)}


def run_ours(contender: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The command itself on a recipe; its loop says when the models are there and when training has ended."""
    import yaml

    from hf_align.commands import ppo as command
    from hf_align.rl import loop

    output = folder / f"run-{os.getpid()}"
    recipe = {
        "model_name_or_path": options.model,
        "datasets": [{"path": str(folder / PROMPTS), "format": "messages"}],
        "max_length": 8192,
        "dataset_cache": False,
        "reward_model": str(folder / REWARD),
        "adapter": "lora",
        "lora_r": RANK,
        "lora_alpha": 2.0 * RANK,
        "output_dir": str(output),
        "total_episodes": options.episodes,
        "rollout_batch_size": ROLLOUT,
        "max_new_tokens": NEW_TOKENS,
        "temperature": TEMPERATURE,
        "num_ppo_epochs": PASSES,
        "kl_coef": KL_COEF,
        "learning_rate": LEARNING_RATE,
        "adam_epsilon": ADAM_EPSILON,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "save_strategy": "no",
        "num_samples": 0,
    }
    if contender == "ours_separate":
        recipe |= {"value_model": "separate", "value_model_name_or_path": str(folder / REWARD)}
    path = folder / f"recipe-{os.getpid()}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")

    marks: dict[str, float] = {}
    asked: list[list[int]] = []
    train = loop.train

    class Loop(loop.Loop):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            asked.extend(list(prompt.ids) for prompt in self.prompts.training.values())
            marks.update(begun=time.perf_counter(), processor_begun=time.process_time())

    def timed(*arguments: Any) -> None:
        train(*arguments)
        marks.update(ended=time.perf_counter(), processor_ended=time.process_time())

    loop.Loop, loop.train = Loop, timed  # type: ignore[misc]
    record = command.main(["--config", str(path)])
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    rollouts = [line for line in metrics if "update_seconds" in line]
    phases = {
        name: sum(line[f"{name}_seconds"] for line in rollouts)
        for name in ("sample", "score", "measure", "update")
    }
    tokens = [round(line["response_length"] * ROLLOUT) for line in rollouts]
    return {
        "seconds": marks["ended"] - marks["begun"],
        "processor_seconds": marks["processor_ended"] - marks["processor_begun"],
        "phase_seconds": phases,
        "prompts_asked": asked,
        "tokens_sampled": sum(tokens),
        "tokens_computed": sum(tokens),
        "rollouts": rollouts,
        "kl_at_start": record.get("start_check"),
    }


@contextlib.contextmanager
def peak_memory(use_cpu: bool) -> Iterator[dict[str, int]]:
    """``peak_memory_bytes`` of what runs inside: resident on a CPU, allocated on a GPU."""
    import torch
    from common import MemoryWatch

    found: dict[str, int] = {}
    with MemoryWatch() as watch:
        yield found
    found["peak_memory_bytes"] = watch.peak_bytes if use_cpu else torch.cuda.max_memory_allocated()


def worker(contender: str, options: argparse.Namespace) -> dict[str, Any]:
    """One contender once."""
    from hf_align.modeling.precision import resolve_precision, runs_on_cpu

    folder = Path(options.folder)
    if contender == "prepare":
        return prepare(folder, options)
    use_cpu = runs_on_cpu(False)
    precision = resolve_precision("auto", use_cpu=use_cpu)
    with peak_memory(use_cpu) as memory:
        if contender.startswith("trl"):
            figures = run_trl(folder, options, precision, tuned=contender == "trl_best")
        else:
            figures = run_ours(contender, folder, options)
    rows = json.loads((folder / "prompt_ids.json").read_text(encoding="utf-8"))
    if sorted(figures.pop("prompts_asked")) != sorted(rows):
        raise SystemExit(f"{contender} did not ask the prompts of the benchmark")
    return {"contender": contender, "precision": precision, **figures, **memory}


def summarised(runs: list[dict[str, Any]], episodes: int) -> dict[str, float | int | str]:
    """The closing line, from medians."""

    def median(contender: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["contender"] == contender)

    seconds, memory = (
        {one: median(one, key) for one in CONTENDERS} for key in ("seconds", "peak_memory_bytes")
    )
    return {
        "ratio_default": round(seconds["trl_default"] / seconds["ours"], 2),
        "ratio_default_separate": round(seconds["trl_default"] / seconds["ours_separate"], 2),
        "ratio_best": round(seconds["trl_best"] / seconds["ours"], 2),
        "ratio_best_separate": round(seconds["trl_best"] / seconds["ours_separate"], 2),
        "memory_ratio": round(memory["ours"] / memory["trl_default"], 2),
        "memory_ratio_separate": round(memory["ours_separate"] / memory["trl_default"], 2),
        "memory_ratio_best": round(memory["ours"] / memory["trl_best"], 2),
        "memory_ratio_best_separate": round(memory["ours_separate"] / memory["trl_best"], 2),
        "episodes_per_second": round(episodes / seconds["ours"], 3),
        **{f"{one}_seconds": round(seconds[one], 1) for one in CONTENDERS},
    }


def environment_of(contender: str) -> Mapping[str, str]:
    """TRL's own variables: its packages first, and the mixed precision that its trainer takes from here."""
    from hf_align.modeling.precision import resolve_precision, runs_on_cpu

    if not contender.startswith("trl"):
        return {}
    paths = os.pathsep.join([str(TRL_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    precision = resolve_precision("auto", use_cpu=runs_on_cpu(False))
    if contender == "trl_default" or precision != "bf16":
        return {"PYTHONPATH": paths}
    return {"PYTHONPATH": paths, "ACCELERATE_MIXED_PRECISION": "bf16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="data/orders_en.jsonl", help="rows; default: %(default)s")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=32, help="sampled answers; whole rollouts of 16")
    parser.add_argument(
        "--accumulate", type=int, default=1, help="parts that TRL cuts an optimizer step into; default: 1"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CONTENDERS,
        default=CONTENDERS,
        help="leave out the others, and the summary",
    )
    parser.add_argument("--worker", choices=(*CONTENDERS, "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker, options)))
        return
    if options.episodes % ROLLOUT or ROLLOUT % options.accumulate:
        parser.error(f"--episodes: a multiple of {ROLLOUT}; --accumulate: a divisor of it")
    from common import run_worker, write_results

    if {"trl_best", "trl_default"} & set(options.only):
        install_trl()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        given = ["--data", options.data, "--model", options.model, "--folder", folder]
        given += ["--episodes", str(options.episodes), "--accumulate", str(options.accumulate)]
        prepared = run_worker(__file__, "prepare", given)
        ids = prepared.pop("prompt_ids")
        (Path(folder) / "prompt_ids.json").write_text(json.dumps(ids), encoding="utf-8")
        for repeat in range(options.repeats):
            for contender in options.only:
                runs.append(run_worker(__file__, contender, given, environment_of(contender)))
                run = runs[-1]
                print(
                    f"{repeat + 1}/{options.repeats} {contender}: {run['seconds']:.1f} s, "
                    f"{run['processor_seconds']:.1f} processor seconds, "
                    f"{run['peak_memory_bytes'] / 2**30:.2f} GiB, {run['tokens_sampled']} tokens sampled",
                    flush=True,
                )
    if set(options.only) == set(CONTENDERS):
        raw = {
            "runs": runs,
            **prepared,
            "note": "tokens_sampled: up to and with the token that ends an answer; the sides draw different "
            "answers. tokens_computed: those that later passes run over, with TRL's padding behind an answer",
            "targets": TARGETS,
            "data": options.data,
            "model": options.model,
        }
        write_results("ppo", raw, summarised(runs, options.episodes))


if __name__ == "__main__":
    main()
