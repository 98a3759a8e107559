"""Started by python or by torchrun: one update on fixed answers, its weights and metrics kept in a file.

Arguments: the file, and the options of an algorithm as JSON, by default those of PPO. The answers of a
prompt belong to one process, prompts in turn to each; there are fewer prompts in a mini-batch than processes
at times, and one process then has none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.ppo_parts import accelerator, answers, models, options, prompts, rollout_tools, update_tools
from safetensors.torch import save_file

from hf_align.rl.advantages import make_experience
from hf_align.rl.checks import check_first_pass
from hf_align.rl.episodes import trees_of, update_rows
from hf_align.rl.rollout import gather_episodes, measure_episodes
from hf_align.rl.update import update

LENGTHS = [[3, 1], [4, 2], [2, 6], [5, 5], [1, 1]]
SETTINGS = {"num_ppo_epochs": 2, "num_mini_batches": 4, "entropy_coef": 0.01, "rollout_batch_size": 5}


def main(target: Path, settings: dict[str, Any]) -> None:
    where = accelerator()
    rank, processes = where.process_index, where.num_processes
    found = models(values="algorithm" not in settings)
    everything = answers(LENGTHS)
    mine = [one for one in everything if one.prompt % processes == rank]
    asked = prompts([7, 4, 9, 5, 3])[rank::processes]
    trees = trees_of(asked, mine)
    measure_episodes(rollout_tools(found), trees)
    episodes = gather_episodes(where, mine)
    for one in episodes[::3]:
        one.stopped = False
    assert [one.prompt for one in episodes] == sorted(one.prompt for one in everything)
    scores = np.array([one.reward for one in episodes])
    estimates = make_experience(episodes, scores, options(**settings), kl_coef=0.05)
    metrics = update(
        update_tools(found, max_tokens=25, where=where, **settings),
        update_rows(trees, episodes, estimates.columns),
        prompts=5,
        seed=(0,),
        check_first=lambda means: check_first_pass(means, "fp32"),
        check_step=lambda means: None,
    )
    weights = {name: p.detach().clone() for name, p in found.module.named_parameters()}
    if where.is_main_process:
        save_file({name: p for name, p in weights.items() if name != "policy.lm_head.weight"}, target)
        target.with_suffix(".json").write_text(json.dumps({**estimates.metrics, **metrics}))
    if processes > 1:
        for parameter in weights.values():
            others = [torch.empty_like(parameter) for _ in range(processes)]
            torch.distributed.all_gather(others, parameter)
            assert all(torch.equal(other, parameter) for other in others)
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else SETTINGS)
