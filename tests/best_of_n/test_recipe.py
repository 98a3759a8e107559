"""The recipe of Best-of-N: keys of training have an effect with ``train`` only, and what it does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_align.best_of_n.recipe import BestOfNOptions, parse_best_of_n
from hf_align.errors import UserError

COMMON = {"model_name_or_path": "m", "datasets": "a.jsonl", "reward_model": "r"}


def parse(folder: Path, **keys: Any) -> Any:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({**COMMON, **keys}), encoding="utf-8")
    return parse_best_of_n(["--config", str(path)])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": 1e-4}, "learning_rate: this has no effect, because train is false by default"),
        ({"eval_datasets": "b.jsonl"}, "eval_datasets: this has no effect"),
        ({"adapter": "lora"}, "adapter: this has no effect"),
        ({"rounds": 2}, "rounds: this has no effect"),
        ({"keep_best": 5, "num_generations": 4}, "found 5 answers to keep of 4"),
        ({"streaming": True}, "streaming: this has no effect: every row"),
        ({"datasets": [{"path": "a", "weight": 2}]}, "a weight: this has no effect"),
        ({"train": True, "train_on": "all"}, "what is trained are the sampled answers"),
        ({"train": True, "load_in_4bit": True}, "quantised weights cannot be trained"),
        ({"train": True, "eval_strategy": "epoch"}, "held-out prompts are answered after every round"),
        ({"num_generations": 1}, "at least 2"),
    ],
)
def test_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(tmp_path, **keys)


def test_the_flat_form_leaves_out_what_is_not_used(tmp_path: Path) -> None:
    flat = parse(tmp_path).to_flat()
    assert {"num_generations", "output_dir", "seed", "use_cpu"} <= set(flat)
    assert not {"learning_rate", "adapter", "rounds", "eval_datasets"} & set(flat)
    trained = parse(tmp_path, train=True, adapter="lora", rounds=3).to_flat()
    assert trained["rounds"] == 3 and trained["adapter"] == "lora" and "learning_rate" in trained


def test_answers_above_the_mean_are_kept_where_they_are_learned_from() -> None:
    assert not BestOfNOptions().above_mean and BestOfNOptions(train=True).above_mean
    assert BestOfNOptions(keep_above_mean=True).above_mean
    assert not BestOfNOptions(train=True, keep_above_mean=False).above_mean
