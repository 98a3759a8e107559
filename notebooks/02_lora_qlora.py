# %% [markdown]
# # LoRA and QLoRA
#
# The same task three times: LoRA on a base in 16 or 32 bits, LoRA on the same base held in 4 bits (QLoRA),
# and all weights. The notebook shows what each trains, what the base takes in memory, and how they compare.
# Nothing here needs a GPU: the 4-bit kernels of bitsandbytes run on CPUs as well.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute, with a tiny random model and a few steps.
import os
import tempfile

from notebook_support import arguments, default_model, tiny_chat_model

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
MODEL = tiny_chat_model(f"{RUNS}/tiny") if SMALL else default_model()
# What all three runs have in common.
COMMON = {
    "model_name_or_path": MODEL,
    "max_steps": 16 if SMALL else 40,
    "eval_strategy": "no",
    "save_strategy": "no",
    "num_samples": 2 if SMALL else 12,
    "sample_max_new_tokens": 24 if SMALL else 64,
}

# %% [markdown]
# ## LoRA
#
# A weight matrix $W_0 \in \mathbb{R}^{d \times k}$ stays as it is; beside it two thin matrices are trained
# (Hu et al. 2021, [arXiv 2106.09685](https://arxiv.org/abs/2106.09685), section 4.1):
#
# $$h = W_0 x + \frac{\alpha}{r} B A x, \qquad B \in \mathbb{R}^{d \times r},\quad
# A \in \mathbb{R}^{r \times k},\quad r \ll \min(d, k)$$
#
# $B$ begins at zero, so training starts from the model as it is. Instead of $d \cdot k$ weights $r (d + k)$
# are trained, and only those have gradients and optimizer states.

# %%
from hf_align.commands import sft
from hf_align.reporting.inline import show_run, show_runs

rate = 0.02 if SMALL else 1e-3
options = {**COMMON, "learning_rate": rate, "output_dir": f"{RUNS}/lora"}
lora = sft.main(arguments("recipes/sft/quickstart.yaml", **options))

# %%
show_run(f"{RUNS}/lora", "facts", "loss")

# %% [markdown]
# ## What 4 bits keep of a weight
#
# QLoRA (Dettmers et al. 2023, [arXiv 2305.14314](https://arxiv.org/abs/2305.14314), section 3) holds the
# frozen base in NF4. Weights are taken in blocks of 64, each block is divided by its largest absolute value
# $c$, and every weight becomes the nearest of 16 values $q_i$, the quantiles of a normal distribution, since
# trained weights are nearly normal:
#
# $$w \approx c \cdot q_i, \qquad i = \arg\min_j \left| \frac{w}{c} - q_j \right|$$
#
# Double quantisation holds the $c$ themselves in 8 bits. Together that is about 4.1 bits a weight. For every
# use the matrix is dequantised; gradients flow through it to the adapter.
#
# Below is one matrix of the model, quantised and read back: on the left the 16 levels, on the right what
# comes back for each weight.

# %%
import bitsandbytes.functional as bnb
import matplotlib.pyplot as plt
import torch
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
weight = base.model.layers[0].mlp.down_proj.weight.detach()
packed, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
back = bnb.dequantize_4bit(packed, state)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
scaled = (weight.reshape(-1, 64) / weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True)).flatten()
left.hist(scaled.numpy(), bins=120, color="#7fb8d8")
for level in state.code.tolist():
    left.axvline(level, color="#c24e00", linewidth=0.9)
left.set(title="Weights over their block's largest, and NF4's 16 levels", xlabel="w / c", ylabel="weights")
right.scatter(weight.flatten()[:4000].numpy(), back.flatten()[:4000].numpy(), s=3, color="#0072b2")
right.set(title="What is read back", xlabel="weight", ylabel="weight after NF4")
plt.show()

error = (torch.linalg.vector_norm(back - weight) / torch.linalg.vector_norm(weight)).item()
constants = state.absmax.numel() + 4 * state.state2.absmax.numel()
print(f"relative error {error:.1%}; {8 * (packed.numel() + constants) / weight.numel():.2f} bits a weight")

# %% [markdown]
# ## QLoRA
#
# The recipe is the one above with three more keys. `load_in_4bit` takes every linear layer but the head;
# embeddings and norms stay as they are, which is why a small model shrinks less than a large one.

# %%
# With the optimizer of the run before, so that nothing but the base differs.
options = {**COMMON, "learning_rate": rate, "optim": "adamw_torch", "output_dir": f"{RUNS}/qlora"}
qlora = sft.main(arguments("recipes/sft/qlora_nf4.yaml", **options))

# %% [markdown]
# The weights as they lie in memory, by part of the model, frozen base only:

# %%
from hf_align.config import ModelConfig
from hf_align.saved_models.run_models import find_model, load_run_model


def megabytes(folder: str) -> dict[str, float]:
    """Memory of the frozen weights in MB: linear layers inside the blocks, and everything else."""
    model, _ = load_run_model(find_model(ModelConfig(folder)))
    parts = {"linear layers": 0.0, "embeddings and norms": 0.0}
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            part = "linear layers" if "proj" in name else "embeddings and norms"
            parts[part] += parameter.numel() * parameter.element_size() / 1e6
    return parts


sizes = {name: megabytes(f"{RUNS}/{name}") for name in ("lora", "qlora")}
figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
start = dict.fromkeys(sizes, 0.0)
for part, color in (("linear layers", "#0072b2"), ("embeddings and norms", "#7fb8d8")):
    values = [sizes[name][part] for name in sizes]
    axes.barh(list(sizes), values, left=list(start.values()), color=color, label=part)
    start = {name: start[name] + sizes[name][part] for name in sizes}
axes.set(xlabel="MB of frozen weights")
axes.invert_yaxis()
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## All weights
#
# For comparison: the same steps with every weight trained. That needs a gradient and two optimizer states
# for each of them, and a smaller learning rate.

# %%
options = {**COMMON, "learning_rate": 0.01 if SMALL else 2e-4, "output_dir": f"{RUNS}/full"}
full = sft.main(arguments("recipes/sft/full.yaml", **options))

# %%
show_runs([f"{RUNS}/lora", f"{RUNS}/qlora", f"{RUNS}/full"])

# %% [markdown]
# The held-out losses of LoRA and QLoRA are close: the adapter is trained on the rounded base, so it also
# learns to correct the rounding. That is why an adapter of a 4-bit base is merged into the dequantised
# weights, not into the original ones (`hf-align merge`).
#
# ## Read on
#
# - [docs/adapters.md](../docs/adapters.md): every other method, what each trains, and how they compare on
#   one task.
# - [recipes/sft/qlora_8b_1gpu.yaml](../recipes/sft/qlora_8b_1gpu.yaml): the same keys for a model of 8
#   billion weights.
# - [docs/architecture.md](../docs/architecture.md), "Merging": how an adapter is merged, and how that is
#   checked.
# - [03_reward_dpo_ipo.ipynb](03_reward_dpo_ipo.ipynb): learning from comparisons.
