"""The curves of a run over its rollouts: rewards, distance from the reference, answers, updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.reporting.drawing import HERO, Plot, XAxis
from hf_align.reporting.plots import Curves, curve_plots, drawable
from hf_align.runs import formatting
from hf_align.runs.metrics import rows_with, training_rows

ROLLOUTS = XAxis("rollouts", "rollout", "{:,.0f}".format, whole=True)
EVALUATED = "eval_reward/total"
"""In every line of an evaluation."""

TABLE = (
    Curves("Reward", "mean reward of an answer", {"reward/total": ""}, sizes=HERO),
    Curves("KL to the reference", "KL estimate, nats per answer", {"kl": ""}),
    Curves("Score and KL penalty", "mean of an answer", {"score": "score", "kl_penalty": "penalty"}),
    Curves("Entropy", "nats per token", {"entropy": ""}),
    Curves("Length of the answers", "tokens", {"response_length": ""}),
    Curves(
        "Groups without signal",
        "share whose scores are equal",
        {"frac_reward_zero_std": ""},
        formatting.share,
    ),
    Curves("Spread within a group", "mean deviation of the scores", {"group_score_std": ""}),
    Curves("Length against score", "correlation over answers", {"length_score_correlation": ""}),
    Curves("EOS rate: answers that end by themselves", "share", {"eos_rate": ""}, formatting.share),
    Curves(
        "Clipped tokens",
        "share",
        {"clip_fraction": "policy", "value_clip_fraction": "values"},
        formatting.share,
    ),
    Curves("approx_kl of an update", "nats per token", {"approx_kl": ""}),
    Curves("Explained variance of the returns", "1 is all of it", {"explained_variance": ""}),
    Curves("Value loss", "squared units of the score", {"value_loss": ""}),
    Curves("KL coefficient", "score per nat", {"kl_coef": ""}),
)


def rl_plots(rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The plots that the metrics allow: of the parts of a reward where there are several, of the KL
    coefficient where it moves."""
    train = training_rows(rows)
    parts = [key for key in (train or [{}])[0] if key.startswith("reward/") and key != "reward/total"]
    titles = {key: f"Reward {key.removeprefix('reward/')}" for key in parts if len(parts) > 1}
    named_parts = [Curves(title, "mean, without its weight", {key: ""}) for key, title in titles.items()]
    moves = len(set(drawable(train, "kl_coef").values)) > 1
    table = [entry for entry in (TABLE[0], *named_parts, *TABLE[1:]) if moves or "kl_coef" not in entry.keys]
    words = ("sampled for training", "held-out prompts")
    held_out = rows_with(rows, EVALUATED)
    return curve_plots(table, "ppo", train, held_out, x=ROLLOUTS, said=("", words[1]), labels=words)
