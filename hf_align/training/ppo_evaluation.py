"""What the policy's answers to held-out prompts are worth: one to each prompt, sampled as in a rollout.

What this leaves out: when it is done and where the figures go (``ppo``).
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_align.data.prompts import Prompt
from hf_align.training.ppo_estimates import answer_figures, reward_figures
from hf_align.training.ppo_rollout import (
    RolloutTools,
    gather_episodes,
    measure_episodes,
    sample_episodes,
    score_episodes,
    trees_of,
)


def held_out_figures(
    tools: RolloutTools, prompts: Sequence[Prompt], *, seed: tuple[int, ...]
) -> dict[str, float]:
    """Figures of the rewards and the answers, and ``kl``, the mean over the answers of their log-probability
    under the policy less that under the reference, in nats; the same on every process."""
    rank, processes = tools.accelerator.process_index, tools.accelerator.num_processes
    asked = list(enumerate(prompts))[rank::processes]
    mine = sample_episodes(tools, asked, samples=1, seed=seed)
    score_episodes(tools, asked, mine)
    measure_episodes(tools, trees_of(asked, mine))
    episodes = gather_episodes(tools.accelerator, mine)
    kl = sum(float((one.logps - one.reference_logps).sum()) for one in episodes) / len(episodes)
    return {**reward_figures(episodes), **answer_figures(episodes), "kl": kl}
