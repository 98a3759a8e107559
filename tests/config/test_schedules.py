"""Learning-rate schedules: the table of arguments is that of transformers; what is no schedule is refused."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from hf_align.config.group import KeyProblem
from hf_align.config.schedules import SCHEDULE_ARGUMENTS, Schedule, check_schedule_arguments


def test_schedule_arguments_are_those_of_transformers():
    # The oracle is transformers: the keyword arguments of each schedule's function but for those that the
    # trainer itself passes.
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.trainer_utils import SchedulerType

    passed = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, arguments in SCHEDULE_ARGUMENTS.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
        assert set(inspect.signature(function).parameters) - passed == set(arguments), name


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("linear", {"power": 2}, "has no argument 'power'; it takes none"),
        ("polynomial", {"powr": 2}, "Did you mean 'power'"),
        ("polynomial", {"power": 2.5}, None),
        ("inverse_sqrt", {"timescale": 0.5}, "expected a whole number of at least 1"),
        ("cosine", {"num_cycles": -1}, "expected a number of at least 0"),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 5, "warmup_type": "cubic"},
            "one of: linear, cosine, 1-sqrt",
        ),
        ("warmup_stable_decay", {"num_decay_steps": 5, "decay_type": "1-sqrt"}, None),
    ],
)
def test_arguments(schedule, arguments, message):
    if message is None:
        check_schedule_arguments(schedule, arguments, 0.0, 1e-4)
        return
    with pytest.raises(KeyProblem, match=message) as caught:
        check_schedule_arguments(schedule, arguments, 0.0, 1e-4)
    assert caught.value.keys[0] == "lr_scheduler_kwargs"


def test_every_schedule_has_its_arguments():
    assert list(SCHEDULE_ARGUMENTS) == list(get_args(Schedule))
