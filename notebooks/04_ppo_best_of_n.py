# %% [markdown]
# # PPO and Best-of-N
#
# Two ways to get more of a reward. Best-of-N samples many answers and keeps the best: nothing is trained,
# and every answer costs N. PPO trains the model on its own answers, so that a single one is worth more. This
# notebook does both with one reward and the same held-out prompts, and compares them on one scale: how much
# reward for how many nats of change.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute, with a tiny random model and a few steps.
import os
import tempfile

from notebook_support import arguments, default_model, tiny_chat_model

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
MODEL = tiny_chat_model(f"{RUNS}/tiny") if SMALL else default_model()
PROMPTS = {"format": "prompt_completion", "columns": {"completion": "chosen"}}
HELD_OUT = {"path": "data/pairs_heldout.jsonl", "max_rows": 16 if SMALL else 32, **PROMPTS}
# How answers are sampled, in both.
SAMPLING = {"max_new_tokens": 32 if SMALL else 48, "temperature": 0.7}
REWARD = "recipes/ppo/brevity.py:brevity"
if SMALL:
    # Random weights write no sentences, of which the reward could prefer some.
    from hf_align.commands import sft

    taught = {"datasets": [{"path": "data/pairs_en.jsonl", **PROMPTS}], "adapter": "none", "max_length": 512}
    taught |= {"max_steps": 50, "learning_rate": 0.01, "per_device_train_batch_size": 8, "num_samples": 0}
    sft.main(arguments(model_name_or_path=MODEL, output_dir=f"{RUNS}/taught", **taught))
    MODEL = f"{RUNS}/taught"

# %% [markdown]
# ## A reward is a Python function
#
# It gets prompts, answers and rows, and returns a number for each answer. This one wants at most twelve
# words and a clean end. It can be checked, and it can be gamed as well: nothing in it says that an answer
# has to be right. A reward model, such as that of [03_reward_dpo_ipo.ipynb](03_reward_dpo_ipo.ipynb), takes
# the same place (`reward_model: runs/…`).

# %%
import runpy

brevity = runpy.run_path("recipes/ppo/brevity.py")["brevity"]
answers = [
    "It leaves at 16:20.",
    "It leaves at 16:20",
    "Well, " + "that is a very good question " * 4,
    "Yes.",
]
for answer, score in zip(answers, brevity([""] * 4, answers, [{}] * 4), strict=True):
    print(f"{score:.2f}  {answer}")

# %% [markdown]
# ## Best of N
#
# With N rewards $r_1 \le \dots \le r_N$ of sampled answers to a prompt, the expected best of any $n \le N$
# has an unbiased estimate, the mean of the largest over all choices of $n$ of them (the estimator that
# pass@k is a case of, Chen et al. 2021, [arXiv 2107.03374](https://arxiv.org/abs/2107.03374)):
#
# $$\hat{R}_n = \sum_{i \ge n} \binom{i-1}{n-1} \binom{N}{n}^{-1} r_i$$
#
# How far does choosing move the distribution of answers? By no more than $\log n - \frac{n-1}{n}$ nats of KL
# divergence, whatever the reward (Beirami et al. 2024, [arXiv 2401.01879](https://arxiv.org/abs/2401.01879),
# theorem 3.1). The run samples once, with N answers to each prompt, and reads the whole curve off that.

# %%
from hf_align.commands import best_of_n
from hf_align.reporting.inline import show_run

best = best_of_n.main(
    arguments(
        "recipes/best_of_n/quickstart.yaml",
        **SAMPLING,
        model_name_or_path=MODEL,
        datasets=[HELD_OUT],
        reward_functions=REWARD,
        num_generations=8 if SMALL else 16,
        min_reward=0,
        keep_unfinished=True,
        output_dir=f"{RUNS}/best_of_n",
    )
)

# %%
show_run(f"{RUNS}/best_of_n", "best_of_n")

# %% [markdown]
# ## PPO
#
# A rollout samples answers with the policy as it is; an update then takes several passes over them. The
# objective of a token is clipped (Schulman et al. 2017, [arXiv
# 1707.06347](https://arxiv.org/abs/1707.06347), equation 7), so that one rollout cannot move the policy far:
#
# $$\mathcal{L} = -\min\big(\rho_t A_t,\; \text{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon)\, A_t\big), \qquad
# \rho_t = \frac{\pi_\theta(y_t)}{\pi_\text{old}(y_t)}$$
#
# The reward of a token is minus its share of the KL divergence from the model as it was, $-\beta \log
# \frac{\pi_\text{old}(y_t)}{\pi_\text{ref}(y_t)}$, and the last one gets the score as well (Ziegler et al.
# 2019, [arXiv 1909.08593](https://arxiv.org/abs/1909.08593), section 2). The advantage $A_t$ says how much
# better things went from here than the value head expected; generalised advantage estimation (Schulman et
# al. 2015, [arXiv 1506.02438](https://arxiv.org/abs/1506.02438), equation 16) sums the surprises that
# follow:
#
# $$\delta_t = r_t + \gamma V_{t+1} - V_t, \qquad A_t = \sum_{l \ge 0} (\gamma\lambda)^l\, \delta_{t+l}$$

# %%
from hf_align.commands import ppo

options = {**SAMPLING, "model_name_or_path": MODEL, "eval_datasets": [HELD_OUT], "output_dir": f"{RUNS}/ppo"}
if SMALL:
    options |= {"num_rollouts": 8, "rollout_batch_size": 8, "learning_rate": 0.003, "num_samples": 2}
    options |= {"num_ppo_epochs": 2}
ppo_run = ppo.main(arguments("recipes/ppo/quickstart.yaml", **options))

# %%
show_run(f"{RUNS}/ppo", "ppo")

# %% [markdown]
# ## Reward for change
#
# Both on one scale. Best-of-N stands at the upper bound of its KL divergence, PPO at the estimate from its
# own samples, rollout after rollout. Best-of-N is hard to beat for a few nats, and costs N answers each
# time; PPO pays once, and can go further from where the reward function was meant to be used: whatever it
# rewards by mistake lies in that direction.

# %%
import matplotlib.pyplot as plt

from hf_align.runs.metrics import read_metrics

curve = best["best_of_n"]["curve"]
rollouts = [row for row in read_metrics(f"{RUNS}/ppo/metrics.jsonl").rows if "reward/total" in row]
figures = ppo_run["final_metrics"]

held_out = figures["eval_kl"], figures["eval_reward/total"]
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
kl, reward = [each["kl_bound"] for each in curve], [each["reward"] for each in curve]
axes.plot(kl, reward, "o-", color="#c24e00", markersize=4, label=f"best of 1 to {curve[-1]['n']}, held out")
kl, reward = [row["kl"] for row in rollouts], [row["reward/total"] for row in rollouts]
axes.plot(kl, reward, ".--", color="#7fb8d8", linewidth=0.8, label="PPO, each rollout")
axes.plot(*held_out, "D", color="#0072b2", label="PPO, held out")
axes.set(xlabel="KL divergence from the model as it was, nats per answer", ylabel="mean reward")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What is it that was learned?
#
# Held-out answers before and after, and their rewards. Read them: a number that goes up says that the reward
# went up, and no more.

# %%
show_run(f"{RUNS}/ppo", "generations")

# %% [markdown]
# ## Read on
#
# - [docs/ppo.md](../docs/ppo.md): every key; the checks at the start; reward hacking watched while it
#   trains; any recorded update computed again by hand.
# - [docs/best-of-n.md](../docs/best-of-n.md): keeping the best as training data, and learning from it round
#   after round (RAFT).
# - [recipes/ppo/reward_model.yaml](../recipes/ppo/reward_model.yaml): the same against a reward model.
# - [05_pretraining.ipynb](05_pretraining.ipynb): where models come from.
