"""Runs of the best-of-n command on a tiny model, and a reward that is easy to count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders

from hf_align.best_of_n.answers import SampledPrompt
from hf_align.commands import best_of_n

REWARD = '''"""Vowels of the answer, and what the row says."""


def vowels(prompts, completions, rows):
    return [sum(text.count(vowel) for vowel in "aeiou") for text in completions]


def wanted(prompts, completions, rows):
    return [row["output"].count("Oslo") for row in rows]
'''


def make_inputs(folder: Path, rows: int = 6) -> dict[str, Any]:
    """Recipe keys: a random model of 2 layers, ``rows`` prompts and a reward function, all in ``folder``."""
    (folder / "mine.py").write_text(REWARD, encoding="utf-8")
    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", initializer_range=0.2),
        "datasets": write_orders(folder / "train.jsonl", rows),
        "reward_functions": f"{folder / 'mine.py'}:vowels",
    }


def arguments(inputs: dict[str, Any], output_dir: Path, **options: Any) -> list[str]:
    """Two prompts of four answers each are sampled at once."""
    recipe = {
        **inputs,
        "output_dir": str(output_dir),
        "use_cpu": True,
        "dtype": "float32",
        "num_generations": 4,
        "max_new_tokens": 6,
        "generation_batch_size": 8,
        "keep_unfinished": True,
        **options,
    }
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return ["--config", str(path)]


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    return best_of_n.main(arguments(inputs, output_dir, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


TURNS = [{"role": "user", "content": "Send lamps."}]


def answered_by(answers: list[str], scores: list[float], **others: Any) -> SampledPrompt:
    """One prompt with these answers; each stopped by itself, unless ``others`` say so."""
    values: dict[str, Any] = {
        "prompt": TURNS,
        "rewards": {"a": scores},
        "stopped": [True] * len(answers),
        "tokens": [3] * len(answers),
        "reference": "12",
        "source": "d.jsonl:1",
        "key": "k1",
    }
    return SampledPrompt(answers=answers, scores=scores, **{**values, **others})
