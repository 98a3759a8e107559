# %% [markdown]
# # Reward model, DPO and IPO
#
# Two ways of learning from compared answers: a reward model, which learns to score answers, and direct
# preference optimisation, which moves the language model itself. Both start from the same 400 pairs of
# answers to questions about a short note: a good answer says what the note says, in a house style; the worse
# one of a pair has a fault ([data/README.md](../data/README.md) describes them).

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute, with a tiny random model and a few steps.
import os
import tempfile

from notebook_support import arguments, default_model, tiny_chat_model

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
MODEL = tiny_chat_model(f"{RUNS}/tiny") if SMALL else default_model()
COMMON = {"model_name_or_path": MODEL, "max_length": 512}
if SMALL:
    COMMON |= {"max_steps": 10, "learning_rate": 0.01, "eval_strategy": "no", "save_strategy": "no"}
    COMMON |= {"eval_datasets": [{"path": "data/pairs_heldout.jsonl", "max_rows": 40}]}

# %% [markdown]
# ## One pair
#
# The prompt is shared, and it is computed once: both answers are branches that continue it. Marked tokens
# are the answers; each branch begins with the last token before its answer, the position that predicts its
# first token.

# %%
from hf_align.data.prepare import prepare_datasets
from hf_align.modeling.loading import load_tokenizer
from hf_align.preference.recipe import parse_dpo
from hf_align.reporting.inline import show_rows, show_run, show_runs

config = parse_dpo(arguments("recipes/dpo/quickstart.yaml", **COMMON))
tokenizer = load_tokenizer(config.model)
data = prepare_datasets(config.data, tokenizer, seed=config.training.seed, comparisons=True)
show_rows([data.train[3]], tokenizer)

# %% [markdown]
# ## A reward model
#
# The language model gets a head with one output $r_\theta(x, y)$, read at the last token. Under the
# Bradley-Terry model the chosen answer wins with probability $\sigma(r_w - r_l)$, so that the loss of a pair
# is (Ouyang et al. 2022, [arXiv 2203.02155](https://arxiv.org/abs/2203.02155), equation 1)
#
# $$\mathcal{L} = -\log \sigma\big(r_\theta(x, y_w) - r_\theta(x, y_l)\big)$$
#
# Only differences of scores mean anything to it. A small penalty on their sum, `center_rewards_coefficient`,
# keeps them near zero.

# %%
from hf_align.commands import reward

reward_run = reward.main(arguments("recipes/reward/quickstart.yaml", **COMMON, output_dir=f"{RUNS}/reward"))

# %%
show_run(f"{RUNS}/reward", "facts", "reward")

# %% [markdown]
# Accuracy is the share of held-out pairs whose chosen answer has the higher score. Calibration compares
# $\sigma(|\text{margin}|)$, the probability that the model itself gives its order, with how often that order
# is right. Accuracy by difference in length shows whether length was learned in place of quality.
#
# ## DPO
#
# The reward of an answer can be written by the policy that is best for it, $r = \beta \log
# \frac{\pi(y|x)}{\pi_\text{ref}(y|x)} +
# \text{const}(x)$. Put into the loss above, the reward model disappears (Rafailov et al. 2023,
# [arXiv 2305.18290](https://arxiv.org/abs/2305.18290), equation 7):
#
# $$h = \log \frac{\pi_\theta(y_w|x)}{\pi_\text{ref}(y_w|x)} -
# \log \frac{\pi_\theta(y_l|x)}{\pi_\text{ref}(y_l|x)}, \qquad
# \mathcal{L}_\text{DPO} = -\log \sigma(\beta h)$$
#
# Before the first step policy and reference are the same, so $h = 0$ and the loss is $\ln 2 = 0.693$,
# whatever the data: the run checks that. The reference is the same model with its adapter switched off;
# there is no second one in memory.

# %%
import math

from hf_align.commands import dpo

dpo_run = dpo.main(
    arguments("recipes/dpo/quickstart.yaml", **COMMON, output_dir=f"{RUNS}/dpo", num_samples=2)
)
print(f"loss at the start: {dpo_run['start_check']['found']}; ln 2 = {math.log(2):.6f}")

# %%
show_run(f"{RUNS}/dpo", "preferences")

# %% [markdown]
# ## IPO
#
# DPO's loss falls for ever: on a pair that is always won, $h$ can grow without end, and the reference is
# forgotten. IPO (Azar et al. 2023, [arXiv 2310.12036](https://arxiv.org/abs/2310.12036), equation 17) asks
# for a certain distance instead and not more:
#
# $$\mathcal{L}_\text{IPO} = \left(h - \frac{1}{2\beta}\right)^2$$
#
# The log-ratios are averages over tokens here (`ipo_reduction: mean`), so that $1/(2\beta)$ is a distance in
# nats per token. The picture shows both losses as functions of $h$: what they reward, and where their slope
# ends.

# %%
import matplotlib.pyplot as plt
import torch

from hf_align.losses.preference import dpo_loss, ipo_loss
from hf_align.types import PairLogps

h = torch.linspace(-4, 8, 200)
zero, one = torch.zeros_like(h), torch.ones_like(h)
policy, reference = PairLogps(h, zero, one, one), PairLogps(zero, zero, one, one)
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(h, dpo_loss(policy, reference, beta=0.5), color="#0072b2", label="DPO")
axes.plot(h, ipo_loss(policy, reference, beta=0.25), color="#c24e00", linestyle="--", label="IPO")
axes.axvline(2, color="#888888", linewidth=0.8)
axes.annotate("1 / (2β)", (2.1, 8))
axes.set(xlabel="h, nats", ylabel="loss", ylim=(0, 10), title="β = 0.5 (DPO) and 0.25 (IPO)")
axes.legend(frameon=False)
plt.show()

# %%
ipo_run = dpo.main(arguments("recipes/dpo/ipo.yaml", **COMMON, output_dir=f"{RUNS}/ipo", num_samples=2))

# %%
show_runs([f"{RUNS}/dpo", f"{RUNS}/ipo"])

# %% [markdown]
# Margins are $\beta$ times $h$ and have the unit of their loss, so those of DPO and IPO cannot be compared;
# accuracies can. Look at `logps/chosen_change` as well: the loss asks for a distance, and it can come about
# because the chosen answer becomes *less* likely, only not as fast as the worse one. The recipes add the
# likelihood of the chosen answers (`sft_weight`) against that.
#
# ## Does the reward model agree?
#
# The three models can be put side by side: which answers does the reward model score higher, and which are
# likelier under the language models? `hf-align evaluate` measures both on the same held-out pairs.

# %%
from hf_align.commands import evaluate

evaluation = evaluate.main(
    arguments(
        models=[MODEL, f"{RUNS}/dpo", f"{RUNS}/ipo", f"{RUNS}/reward"],
        preference_datasets=[{"path": "data/pairs_heldout.jsonl", "max_rows": 40 if SMALL else None}],
        output_dir=f"{RUNS}/evaluation",
    )
)

# %%
show_run(f"{RUNS}/evaluation", "evaluation")

# %% [markdown]
# ## Read on
#
# - [docs/reward-models.md](../docs/reward-models.md) and [docs/preferences.md](../docs/preferences.md):
#   every loss, key and figure.
# - [docs/data.md](../docs/data.md): the forms that compared answers may have.
# - [recipes/dpo](../recipes/dpo): cDPO, robust DPO, hinge, SimPO, ORPO.
# - [04_ppo_best_of_n.ipynb](04_ppo_best_of_n.ipynb): what a reward can be used for.
