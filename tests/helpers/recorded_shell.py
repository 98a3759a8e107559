"""A shell in a copy of what ``make`` reads, in which each program only writes its arguments down.

bash and make are the real ones, so quoting, variables, prerequisites and ``&&`` are theirs too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from helpers.documentation import ROOT

RECORDED = (
    "python",
    "python3",
    "hf-align",
    "accelerate",
    "torchrun",
    "pip",
    "pytest",
    "sbatch",
    "git",
    "vllm",
)
VARIABLES = (
    "RECIPE",
    "ARGS",
    "NPROC",
    "ACCELERATE",
    "RUN",
    "OUT",
    "PYTHON",
    "TORCH",
    "DATA",
    "COUNT",
    "UPDATE",
)
ENVIRONMENTS = {"env": RECORDED, ".venv-newest": ("python3",), ".venv-oldest": ("python3",)}
# The Makefile asks its interpreter for GPUs and cores; the answers are those of a machine without a GPU.
RECORDER = """#!/bin/bash
if [ "$1" = -c ]; then
  case "$2" in *cuda*) echo "--use_cpu true";; *) echo 1;; esac
  exit 0
fi
printf '%s\\0' "${0##*/}" "$@" >> "$RECORD"
printf '\\n\\0' >> "$RECORD"
"""


class RecordedShell:
    """``folder`` gets the copy; ``runs/quickstart`` and ``models/`` look as they do after a first run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("hf_align", "tests", "recipes", "data", "docs", "scripts", "benchmarks"):
            (folder / name).symlink_to(ROOT / name)
        for environment, names in ENVIRONMENTS.items():
            programs = folder / environment / "bin"
            programs.mkdir(parents=True)
            for name in names:
                (programs / name).write_text(RECORDER)
                (programs / name).chmod(0o755)
        (folder / "runs" / "quickstart").mkdir(parents=True)
        (folder / "runs" / "quickstart" / "run.json").touch()

    def started(self, line: str) -> list[list[str]]:
        """Name and arguments of each program that ``line`` starts, in order (but the check of make itself).

        Raises AssertionError with what bash or make said where the line fails.
        """
        record = self.folder / "record"
        record.unlink(missing_ok=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in (*VARIABLES, "MAKEFLAGS", "MAKELEVEL")
        }
        environment |= {
            "RECORD": str(record),
            "VENV": "env",
            "PATH": f"{self.folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, f"{line}: status {result.returncode}\n{result.stdout}{result.stderr}"
        text = record.read_text() if record.exists() else ""
        calls = [call.rstrip("\0").split("\0") for call in text.split("\n\0") if call]
        return [call for call in calls if "scripts/check_environment.py" not in call]
