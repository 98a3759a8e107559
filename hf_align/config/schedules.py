"""Which arguments each learning-rate schedule of transformers takes.

Without this check a wrong name would surface as a TypeError after the model has been loaded. The schedules
themselves are transformers' own; a test compares this table with their signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hf_align.config.fields import describe_found
from hf_align.config.group import KeyProblem
from hf_align.errors import did_you_mean

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_min_lr",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
]

SCHEDULE_ARGUMENTS: dict[Schedule, dict[str, type[int] | type[float] | type[str]]] = {
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
_POLYNOMIAL_END = 1e-7
"""``lr_end`` of transformers' polynomial schedule where it is not given."""


def check_schedule_arguments(
    schedule: Schedule, arguments: Mapping[str, object], warmup_steps: float, learning_rate: float
) -> None:
    """Raise :class:`KeyProblem` where ``schedule`` cannot be built from these arguments, or ends above
    its peak, the ``learning_rate``."""
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
    _check_end(schedule, arguments, learning_rate)
    if schedule == "constant" and warmup_steps:
        raise KeyProblem(
            ("warmup_steps", "lr_scheduler_type"),
            "the schedule 'constant' has no warm-up; use constant_with_warmup.",
        )


def _check_end(schedule: str, arguments: Mapping[str, object], learning_rate: float) -> None:
    """Raise :class:`KeyProblem` where the learning rate would not fall: its end is a rate, or a share of the
    peak."""
    given: dict[str, object] = {"lr_end": _POLYNOMIAL_END} if schedule == "polynomial" else {}
    for name, value in (given | dict(arguments)).items():
        if not isinstance(value, int | float):
            continue
        found = f"{name}: found {describe_found(value)}, where the learning rate ends; expected less than"
        if name in ("lr_end", "min_lr") and value >= learning_rate:
            raise KeyProblem(
                ("lr_scheduler_kwargs", "learning_rate"), f"{found} its peak, {learning_rate:g}."
            )
        if name in ("min_lr_rate", "min_lr_ratio") and value >= 1:
            raise KeyProblem(("lr_scheduler_kwargs",), f"{found} 1, a share of its peak.")


def _check_argument(name: str, value: object, kind: type[int] | type[float] | type[str]) -> None:
    if kind is str:
        right, expected = value in _SHAPES, f"one of: {', '.join(_SHAPES)}"
    elif kind is int:
        # A time to divide by cannot be 0.
        least = int(name == "timescale")
        right, expected = isinstance(value, int) and value >= least, f"a whole number of at least {least}"
    else:
        right, expected = isinstance(value, int | float) and value >= 0, "a number of at least 0"
    if not right:
        raise KeyProblem(
            ("lr_scheduler_kwargs",), f"{name}: found {describe_found(value)}, expected {expected}."
        )
