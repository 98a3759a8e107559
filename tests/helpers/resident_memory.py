"""A run in a process of its own, on rows of ever-changing length, and its resident memory at every step.

``python -m helpers.resident_memory {sft,dpo,ppo} FOLDER STEPS`` prints a list: MiB after each optimizer step.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS = 600
CITIES = ("Oslo", "Rome", "Lima", "Cairo")
TESTS = Path(__file__).parents[1]


def resident_memory(command: str, folder: Path, steps: int) -> list[float]:
    """MiB that a run of ``command`` in bfloat16 holds after each of ``steps`` optimizer steps."""
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [sys.executable, "-m", "helpers.resident_memory", command, str(folder), str(steps)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    memory: list[float] = json.loads(found.stdout.splitlines()[-1])
    return memory


def _sentences(seed: int) -> Iterator[str]:
    """Texts of 1 to 60 words, a length of its own for each."""
    draw = random.Random(seed)
    while True:
        yield " ".join(draw.choice(("lamps", "to", *CITIES)) for _ in range(draw.randint(1, 60))) + "."


def _write(path: Path, command: str) -> str:
    texts = _sentences(7)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(ROWS):
            row: dict[str, Any] = {"prompt": next(texts), "completion": next(texts)}
            if command == "dpo":
                row = {"prompt": next(texts), "chosen": next(texts), "rejected": next(texts)}
            stream.write(json.dumps(row) + "\n")
    return str(path)


def _recipe(command: str, folder: Path, steps: int) -> dict[str, Any]:
    from helpers.tiny_checkpoint import save_tiny_checkpoint

    recipe: dict[str, Any] = {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", max_position_embeddings=1024),
        "datasets": _write(folder / "train.jsonl", command),
        "output_dir": str(folder / "run"),
        "use_cpu": True,
        "precision": "bf16",
        "max_length": 1024,
        "num_samples": 0,
        "learning_rate": 1e-4,
    }
    if command == "ppo":
        from helpers.tiny_ppo import REWARDS

        (folder / "rewards.py").write_text(REWARDS, encoding="utf-8")
        of_rollout = 4
        return recipe | {
            "reward_functions": [f"{folder / 'rewards.py'}:share_of_e"],
            "num_rollouts": -(-steps // of_rollout),
            "rollout_batch_size": 4,
            "samples_per_prompt": 2,
            "num_ppo_epochs": 2,
            "num_mini_batches": 2,
            "max_new_tokens": 24,
            "max_tokens_per_batch": 2048,
            "save_steps": 10**6,
        }
    return recipe | {
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "max_tokens_per_batch": 2048,
        "save_strategy": "no",
        **({"reference_free": True} if command == "dpo" else {}),
    }


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _main() -> None:
    import importlib

    from torch.optim.optimizer import register_optimizer_step_post_hook

    command, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    found: list[float] = []
    register_optimizer_step_post_hook(lambda *_: found.append(round(_resident(), 1)))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(_recipe(command, folder, steps)), encoding="utf-8")
    try:
        importlib.import_module(f"hf_align.commands.{command}").main(["--config", str(path)])
    finally:
        print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    _main()
