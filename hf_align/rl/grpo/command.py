"""Align a language model with a reward by comparing its own answers: GRPO, RLOO, REINFORCE, REINFORCE++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_align.rl.command import main_of
from hf_align.rl.grpo.recipe import GrpoConfig


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the recipe from ``argv`` and run it; returns the content of run.json.

    With ``--replay`` what :func:`~hf_align.rl.command.replay` returns.
    """
    return main_of(GrpoConfig, argv, __doc__ or "")
