"""A copy of the project in which the commands of its pages are carried out on tiny models and few rows.

Recipes, data and Makefile are the real ones. What is different is the environment: under ``models/`` lie tiny
random models with tokenizers trained on the project's own data, and ``LESS`` is appended to what make starts.
That then runs in this process; where several processes are asked for, through torchrun as make would.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.documentation import ROOT
from helpers.documented_commands import example, hf_align_call, paths, read, recipe_arguments, run_of
from helpers.recorded_shell import RecordedShell
from helpers.scripts import SCRIPTS, load_script

from hf_align.__main__ import main
from hf_align.data.reading.python_passages import read_python_areas

LESS: dict[str, Any] = {
    "use_cpu": True,
    "precision": "fp32",
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "eval_strategy": "no",
    "num_samples": 1,
    "sample_max_new_tokens": 2,
    # tokenizers and pre-training
    "vocab_size": 700,
    "block_length": 32,
    # sampling
    "max_new_tokens": 3,
    "rollout_batch_size": 2,
    "num_mini_batches": 1,
    "num_ppo_epochs": 1,
    "num_generations": 3,
    "rounds": 1,
    "num_train_epochs": 1,
    # What a random model writes is worth nothing by the recipes' own rewards; its length always differs.
    "min_reward": None,
    "keep_unfinished": True,
    "keep_above_mean": False,
}
"""Overrides for whatever command has such a key and is not given it in the documentation."""

LESS_OF: dict[str, dict[str, Any]] = {
    "chat": {"max_new_tokens": 3},
    "best-of-n": {"reward_functions": "length.py:length"},
    # Its stages are documented by themselves.
    "pipeline": {"dry_run": True},
    # Answer 7 of rollout 12 is replayed in docs/ppo.md; there are two to each prompt.
    "ppo": {"num_rollouts": 12, "save_steps": 10, "rollout_batch_size": 4, "num_generations": 2},
    "grpo": {"num_rollouts": 2, "save_steps": 1, "max_completion_length": 16},
}
_NOT_IN_RL = ("max_steps", "num_train_epochs", "per_device_train_batch_size")
WITHOUT = {"ppo": _NOT_IN_RL, "grpo": _NOT_IN_RL}
"""Keys of ``LESS`` that a command has and refuses, since they mean nothing to it."""
ROWS = 64
"""Rows of each data set and each task, where the documented command does not say otherwise; enough for one of
each class of python_areas."""

VOCABULARY = 4000

LENGTH = "def length(prompts, completions, rows):\n    return [float(len(text)) for text in completions]\n"


class Workspace(RecordedShell):
    """``folder`` gets models/ and everything that a command reads; runs are written into its runs/."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.rmtree(folder / "runs")
        (folder / "length.py").write_text(LENGTH)
        # What notebooks run on where they are to be quick; the pages have longer rows, so the tokenizers know
        # more words.
        notebooks, models = load_script(SCRIPTS / "notebook_support.py"), folder / "models"
        passages = [row.values["text"] for row in itertools.islice(read_python_areas(), 200) if row.values]
        learned: dict[str, Any] = {"vocab_size": VOCABULARY, "texts": passages}
        notebooks.tiny_chat_model(str(models / "SmolLM2-135M-Instruct"), longest=8192, **learned)
        notebooks.tiny_encoder(str(models / "all-MiniLM-L6-v2"), **learned)
        self.done: set[tuple[str, ...]] = set()

    def carry_out_line(self, text: str) -> list[list[str]]:
        """Carry out a documented command; before it, whatever writes the runs that it names.

        Returns the arguments of the ``hf-align`` calls. Raises AssertionError where one does not end well.
        """
        line = example(text)
        # make itself looks for RUN, and for the newest run where there is none.
        if re.match(r"make (chat|report|merge)\b", line):
            self.write_runs(paths([line.partition("OUT=")[0]]) or ["runs/quickstart"])
        calls = [hf_align_call(call) for call in self.started(line)]
        for processes, arguments in filter(None, calls):
            self.carry_out(arguments, processes=processes)
        return [call[1] for call in calls if call is not None]

    def carry_out(self, arguments: list[str], *, processes: int = 1) -> None:
        """``hf-align ARGUMENTS`` with less work, once."""
        if (*arguments, str(processes)) in self.done or len(arguments) < 2:
            return
        self.done.add((*arguments, str(processes)))
        config = read(arguments) if "--help" not in arguments else None
        less = [] if config is None else self.less(arguments, config)
        named = [] if config is None else [json.dumps(config.to_flat())]
        own = [] if config is None else [config.to_flat().get("output_dir")]
        self.write_runs(path for path in paths([*arguments, *named]) if run_of(path) not in own)
        with self.environment(processes):
            if processes > 1:
                self.start(processes, [*arguments, *less])
                return
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                try:
                    status = main([*arguments, *less])
                except SystemExit as end:
                    status = end.code
            assert status in (0, None), f"hf-align {shlex.join([*arguments, *less])}\n{output.getvalue()}"

    def start(self, processes: int, arguments: list[str]) -> None:
        """The same through torchrun, as make starts it."""
        launcher = [
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(processes),
            "-m",
            "hf_align",
        ]
        call = [sys.executable, "-m", *launcher, *arguments]
        result = subprocess.run(call, cwd=self.folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{shlex.join(call)}\n{result.stdout}{result.stderr}"

    @contextlib.contextmanager
    def environment(self, processes: int) -> Iterator[None]:
        """In the folder, with a cache of its own, a line to say, and the project importable."""
        variables = {"HF_HOME": str(self.folder / "home"), "NPROC": str(processes), "PYTHONPATH": str(ROOT)}
        said = io.StringIO("Please send two lamps to Oslo.\n")
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, variables),
            mock.patch("sys.stdin", said),
        ):
            yield

    def write_runs(self, named: Iterable[str]) -> None:
        """Have the runs among these paths written by the recipes, or the commands, whose output they are."""
        for folder in sorted({run_of(path) for path in named if path.startswith("runs/")}):
            if not (self.folder / folder).exists():
                self.carry_out(writers()[folder])

    def less(self, arguments: list[str], config: Any) -> list[str]:
        """The overrides that this command takes, has not been given, and that have an effect."""
        keys, flat = type(config).keys(), config.to_flat()
        given = {argument.partition("=")[0] for argument in arguments}
        wanted = LESS | {name: _fewer(flat[name]) for name in flat if name.endswith(_MANY)}
        wanted |= LESS_OF.get(arguments[0], {})
        options = []
        for name in WITHOUT.get(arguments[0], ()):
            wanted.pop(name, None)
        for name, value in wanted.items():
            needs = keys[name].option.needs if name in keys else None
            if (
                name in flat
                and f"--{name}" not in given
                and (needs is None or flat.get(needs[0]) in needs[1])
            ):
                options += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
        return options


_MANY = ("datasets", "_tasks")


def _fewer(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry | {"max_rows": min(ROWS, entry.get("max_rows") or ROWS)} for entry in entries]


@functools.cache
def writers() -> dict[str, list[str]]:
    """What ``hf-align`` is given to write each run folder: a recipe, or by default a stage's quickstart."""
    found: dict[str, list[str]] = {}
    for arguments in recipe_arguments():
        config = read(arguments)
        found.setdefault(config.to_flat()["output_dir"], arguments)
        default = str(type(config).keys()["output_dir"].default)
        if arguments[-1].endswith("/quickstart.yaml"):
            found.setdefault(default, [*arguments, "--output_dir", default])
    return found
