"""A pipeline of tiny stages: fine-tuning for two seeds, rejection sampling on both, and their evaluation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders

import hf_align.pipeline.run as running
from hf_align import __main__ as cli

REWARD = """def vowels(prompts, completions, rows):
    return [float(sum(text.count(vowel) for vowel in "aeiou")) for text in completions]
"""


class Pipeline:
    """A pipeline in ``folder``; ``ran``: the names of the steps that ran.

    ``real``: steps run inside this process; otherwise they leave a record of a finished run. ``stages``
    and ``options`` may be changed between runs. A step named in ``failing`` ends with status 1 instead.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, real: bool = False) -> None:
        self.folder = folder
        self.real = real
        self.ran: list[str] = []
        self.failing: set[str] = set()
        self.recipes: dict[str, str] = {}
        self.clock = itertools.count()
        (folder / "mine.py").write_text(REWARD, encoding="utf-8")
        if real:
            save_tiny_checkpoint(folder / "model", initializer_range=0.2)
        write_orders(folder / "train.jsonl", 6)
        write_orders(folder / "held.jsonl", 3, start=6)
        self.options: dict[str, Any] = {"output_dir": str(folder / "out")}
        self.stages: list[dict[str, Any]] = [
            {
                "command": "sft",
                "model_name_or_path": str(folder / "model"),
                "datasets": str(folder / "train.jsonl"),
                "max_length": 256,
                "max_steps": 2,
                "learning_rate": 1e-3,
                "save_strategy": "no",
                "use_cpu": True,
            },
            {
                "name": "raft",
                "command": "best-of-n",
                "model_name_or_path": "$sft",
                "datasets": str(folder / "train.jsonl"),
                "eval_datasets": str(folder / "held.jsonl"),
                "reward_functions": f"{folder / 'mine.py'}:vowels",
                "train": True,
                "num_generations": 2,
                "max_new_tokens": 3,
                "keep_unfinished": True,
                "use_cpu": True,
            },
            {
                "command": "evaluate",
                "models": [{"path": "$sft", "name": "sft"}, {"path": "$raft", "name": "raft"}],
                "generation_tasks": str(folder / "held.jsonl"),
                "reward_functions": f"{folder / 'mine.py'}:vowels",
                "max_new_tokens": 3,
                "use_cpu": True,
            },
        ]
        monkeypatch.setattr(running, "run_process", self._run_process)

    @property
    def out(self) -> Path:
        return Path(self.options["output_dir"])

    def write(self) -> str:
        """The recipe as a file; JSON is YAML."""
        path = self.folder / "pipeline.yaml"
        path.write_text(json.dumps({**self.options, "stages": self.stages}, indent=1), encoding="utf-8")
        return str(path)

    def run(self, *arguments: str) -> int:
        """The exit status of ``hf-align pipeline``."""
        self.ran.clear()
        return cli.main(["pipeline", "--config", self.write(), *arguments])

    def _run_process(self, arguments: list[str], log: Path) -> tuple[int, None]:
        name = log.stem
        self.ran.append(name)
        self.recipes[name] = Path(arguments[-1]).read_text(encoding="utf-8")
        if name in self.failing:
            return 1, None
        return (cli.main(arguments[3:]) if self.real else self._leave_a_record(arguments)), None

    def _leave_a_record(self, arguments: list[str]) -> int:
        folder = self.out / Path(arguments[-1]).stem
        folder.mkdir(parents=True, exist_ok=True)
        record = {"command": arguments[3], "status": "completed", "started": str(next(self.clock))}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return 0
