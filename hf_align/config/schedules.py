"""Which arguments each learning-rate schedule of transformers takes.

Without this check a wrong name would surface as a TypeError after the model has been loaded. The schedules
themselves are transformers' own; a test compares this table with their signatures.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_align.config.fields import describe_found
from hf_align.config.group import KeyProblem
from hf_align.errors import did_you_mean

SCHEDULE_ARGUMENTS: dict[str, dict[str, type[int] | type[float] | type[str]]] = {
    "linear": {},
    "cosine": {"num_cycles": float},
    "cosine_with_min_lr": {"num_cycles": float, "min_lr": float, "min_lr_rate": float},
    "constant": {},
    "constant_with_warmup": {},
    "polynomial": {"lr_end": float, "power": float},
    "inverse_sqrt": {"timescale": int},
    "warmup_stable_decay": {
        "num_decay_steps": int,
        "num_stable_steps": int,
        "warmup_type": str,
        "decay_type": str,
        "min_lr_ratio": float,
        "num_cycles": float,
    },
}

_SHAPES = ("linear", "cosine", "1-sqrt")


def check_schedule_arguments(schedule: str, arguments: Mapping[str, object], warmup_steps: float) -> None:
    """Raise :class:`KeyProblem` where ``schedule`` cannot be built from these arguments."""
    key = "lr_scheduler_kwargs"
    known = SCHEDULE_ARGUMENTS[schedule]
    for name, value in arguments.items():
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise KeyProblem(
                (key, "lr_scheduler_type"),
                f"the schedule '{schedule}' has no argument '{name}'; {takes}.{did_you_mean(name, known)}",
            )
        _check_argument(name, value, known[name])
    if schedule == "cosine_with_min_lr" and len({"min_lr", "min_lr_rate"} & set(arguments)) != 1:
        raise KeyProblem(
            (key, "lr_scheduler_type"),
            "the schedule 'cosine_with_min_lr' needs either min_lr (a learning rate) or min_lr_rate (a share "
            "of the peak), for example {min_lr_rate: 0.1}.",
        )
    if schedule == "warmup_stable_decay" and "num_decay_steps" not in arguments:
        raise KeyProblem(
            (key, "lr_scheduler_type"),
            "the schedule 'warmup_stable_decay' needs num_decay_steps, for example {num_decay_steps: 100}.",
        )
    if schedule == "constant" and warmup_steps:
        raise KeyProblem(
            ("warmup_steps", "lr_scheduler_type"),
            "the schedule 'constant' has no warm-up; use constant_with_warmup.",
        )


def _check_argument(name: str, value: object, kind: type[int] | type[float] | type[str]) -> None:
    if kind is str:
        right, expected = value in _SHAPES, f"one of: {', '.join(_SHAPES)}"
    elif kind is int:
        right, expected = isinstance(value, int) and value >= 0, "a whole number of at least 0"
    else:
        right, expected = isinstance(value, int | float) and value >= 0, "a number of at least 0"
    if not right:
        raise KeyProblem(
            ("lr_scheduler_kwargs",), f"{name}: found {describe_found(value)}, expected {expected}."
        )
