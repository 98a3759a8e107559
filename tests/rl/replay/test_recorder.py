"""What the flight recorder keeps, and what it removes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.ppo_parts import answers, prompts

from hf_align.rl.checkpoints import Progress
from hf_align.rl.recipe import PpoConfig
from hf_align.rl.replay.recorder import Recorder, recipe_digest
from hf_align.rl.replay.recording import load, path_of, recorded_steps

REQUIRED = {"model_name_or_path": "m", "datasets": "a.jsonl", "reward_functions": "r.py:f"}


def recorder(folder: Path, *, main: bool = True, **options: Any) -> Recorder:
    config = PpoConfig.from_flat({**REQUIRED, "output_dir": str(folder), **options})
    machine = SimpleNamespace(main=main, precision="fp32", use_cpu=True)
    run = SimpleNamespace(config=config, machine=machine, identity={"processes": 1})
    return Recorder(run, rollouts=20, order=1)  # type: ignore[arg-type]


def write(found: Recorder, step: int, **metrics: float) -> None:
    episodes = answers([[3], [2]])
    for episode in episodes:
        for name in ("logps", "entropies", "reference_logps", "values"):
            setattr(episode, name, np.zeros(len(episode.tokens), np.float32))
    before = Progress(rollouts=step - 1, kl_coef=0.05)
    found.write(before, prompts([4, 5]), episodes, np.zeros(2), metrics)


def test_a_rollout_is_written_before_and_after_its_update(tmp_path: Path) -> None:
    found = recorder(tmp_path, num_ppo_epochs=3, num_mini_batches=2, seed=7)
    write(found, 4, kl=0.5)
    assert not load(tmp_path, 4).finished
    write(found, 4, kl=0.5, update_steps=6.0)
    again = load(tmp_path, 4)
    assert again.finished and again.metrics == {"kl": 0.5, "update_steps": 6.0}
    assert again.order_seed == (7, 1, 3) and again.optimizer_steps == 18
    assert [prompt.ids for prompt in again.prompts] == [prompt.ids for _, prompt in prompts([4, 5])]


def test_nothing_is_written_where_it_is_off_or_not_the_main_process(tmp_path: Path) -> None:
    write(recorder(tmp_path, record_rollouts=False), 1)
    write(recorder(tmp_path, main=False), 1)
    assert not (tmp_path / "rollouts").exists()


# checkpoints on disk, limit, steps left of 1 to 10
KEPT = [
    ([], None, range(1, 11)),
    ([], 3, [8, 9, 10]),
    ([4], 3, [5, 6, 7, 8, 9, 10]),  # 8 is computed again from checkpoint 4, by way of 5 to 7
    ([4, 7], 3, [8, 9, 10]),
    ([4, 8], 3, [5, 6, 7, 8, 9, 10]),  # checkpoint 8 is after rollout 8
    ([9], 3, [8, 9, 10]),
    ([4], 20, range(1, 11)),
]


@pytest.mark.parametrize(("at", "limit", "left"), KEPT)
def test_the_newest_stay_and_those_that_lead_to_them(
    tmp_path: Path, at: list[int], limit: int | None, left: list[int]
) -> None:
    found = recorder(tmp_path, record_limit=limit)
    for step in range(1, 11):
        write(found, step)
        if step in at:
            (tmp_path / f"checkpoint-{step}").mkdir()
    assert recorded_steps(tmp_path) == list(left)


def test_what_comes_after_a_checkpoint_goes_when_the_run_goes_on_from_it(tmp_path: Path) -> None:
    found = recorder(tmp_path)
    for step in range(1, 6):
        write(found, step)
    part = path_of(tmp_path, 6).with_name(".rollout-000006.safetensors.x.part")
    part.touch()
    recorder(tmp_path).forget_after(3)
    assert recorded_steps(tmp_path) == [1, 2, 3] and not part.exists()


def test_the_digest_sees_what_decides_about_an_update_alone() -> None:
    def digest(**options: Any) -> str:
        return recipe_digest(PpoConfig, PpoConfig.from_flat({**REQUIRED, **options}).to_flat())

    assert digest(output_dir="x", save_steps=3, record_limit=5, precision="fp32", use_cpu=True) == digest()
    others = {digest(clip_range=0.3), digest(learning_rate=1e-5), digest(max_tokens_per_batch=100)}
    assert len({digest(), *others, digest(max_rows_at_once=3), digest(packing=False)}) == 6
    # What older releases wrote into their recordings.
    other = {"max_rows_at_once": 3, "max_tokens_per_batch": 99, "packing": False, "clip_range": 0.3}
    assert (digest(), digest(**other)) == ("3560dab2bc3fc63a", "99f8bcfcfcf9da91")


def test_keys_of_data_sets_that_came_later_count_where_they_are_set() -> None:
    def digest(**entry: Any) -> str:
        given = {**REQUIRED, "datasets": [{"path": "a.jsonl", **entry}]}
        return recipe_digest(PpoConfig, PpoConfig.from_flat(given).to_flat())

    assert digest() == digest(tools=None) != digest(tools=[{"name": "add"}])
