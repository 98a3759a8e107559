"""The training of a round: what of the training loop has no meaning there is refused."""

from __future__ import annotations

import pytest

from hf_align.best_of_n.raft.recipe import _NOT_HERE, RaftTrainingConfig
from hf_align.config import TrainingConfig
from hf_align.config.fields import specs_of
from hf_align.config.group import KeyProblem

OTHER = {
    "eval_strategy": "epoch",
    "eval_steps": 5,
    "early_stopping_patience": 2,
    "resume_from_checkpoint": "auto",
}


@pytest.mark.parametrize("key", sorted(_NOT_HERE))
def test_what_a_round_does_not_have(key: str) -> None:
    with pytest.raises(KeyProblem, match="this has no effect here") as caught:
        RaftTrainingConfig(**{key: OTHER.get(key, True)})
    assert caught.value.keys == (key,)


def test_it_has_the_keys_of_the_training_loop_and_keeps_its_checks() -> None:
    assert specs_of(RaftTrainingConfig).keys() == specs_of(TrainingConfig).keys()
    with pytest.raises(KeyProblem, match="constant_with_warmup"):
        RaftTrainingConfig(lr_scheduler_type="constant", warmup_steps=3)
