# %% [markdown]
# # Quickstart: supervised fine-tuning
#
# A small chat model learns to turn orders in free words into one line of JSON. The notebook shows which
# tokens it is trained on, trains it, and compares what it wrote before and after, on orders that it has
# never seen.
#
# Everything here is what `make sft` does: the notebook calls the same function with the same recipe,
# [recipes/sft/quickstart.yaml](../recipes/sft/quickstart.yaml). With the default model,
# SmolLM2-135M-Instruct, training takes a few minutes on two CPU cores and needs no GPU.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute, with a tiny random model and a few steps: it shows
# that everything works, not what a language model learns. Without it the real model is built on first use.
import os
import tempfile

from notebook_support import arguments, default_model, tiny_chat_model

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
MODEL = tiny_chat_model(f"{RUNS}/tiny") if SMALL else default_model()
# The recipe, and what overrides it, as on a command line.
options = arguments("recipes/sft/quickstart.yaml", model_name_or_path=MODEL, output_dir=f"{RUNS}/sft")
if SMALL:
    options += arguments(max_steps=24, learning_rate=0.02, eval_strategy="no", save_strategy="no")
    options += arguments(num_samples=3, sample_max_new_tokens=40)

# %% [markdown]
# ## What the model is trained on
#
# A row is a conversation, written with the model's own chat template. The marked tokens are the targets: the
# answer, and the token that ends the turn, without which the model would never learn to stop. The question
# is read, but not learned. The borders are found by character offsets, for any template, so the marks below
# are exactly those of training.

# %%
from hf_align.data.prepare import prepare_datasets
from hf_align.modeling.loading import load_tokenizer
from hf_align.reporting.inline import show_rows, show_run
from hf_align.sft.recipe import parse_sft

config = parse_sft(options)
tokenizer = load_tokenizer(config.model)
data = prepare_datasets(config.data, tokenizer, seed=config.training.seed)
show_rows([data.train[i] for i in range(3)], tokenizer)

# %% [markdown]
# ## Training
#
# With the targets $y_t$ of all rows of an optimizer step, $M$ of them, the loss is the mean negative
# log-likelihood of a target token, in nats:
#
# $$\mathcal{L} = -\frac{1}{M} \sum_{t} \log p_\theta(y_t \mid x_{<t})$$
#
# The mean is over the whole step, not over each of its batches: eight batches of one row give the gradient
# of one batch of eight. The rows lie side by side in one sequence without padding, and attention keeps them
# apart.
#
# The weights are adapted with LoRA ([arXiv 2106.09685](https://arxiv.org/abs/2106.09685)): to each matrix
# $W_0$ a product of two thin ones is added, $W = W_0 + \frac{\alpha}{r} B A$, and only $A$ and $B$ are
# trained.

# %%
from hf_align.commands import sft

record = sft.main(options)

# %%
show_run(f"{RUNS}/sft", "facts", "loss")

# %% [markdown]
# The held-out loss says how well the right answers are predicted, token by token. What counts in the end is
# whether the model writes them.
#
# ## Answers before and after
#
# The same held-out orders, answered by the model as it came and as it is now, always with the likeliest
# token. An answer is right only if it equals the reference exactly.

# %%
show_run(f"{RUNS}/sft", "generations")

# %% [markdown]
# ## An order of your own
#
# A run folder loads like any model, its adapter included; `hf-align chat` does this in a terminal.

# %%
from hf_align.config import ModelConfig
from hf_align.sampling.options import Sampling
from hf_align.saved_models.conversation import Conversation
from hf_align.saved_models.run_models import find_model, load_run_model

model, tokenizer = load_run_model(find_model(ModelConfig(f"{RUNS}/sft")))
conversation = Conversation(model, tokenizer, Sampling(max_new_tokens=40 if SMALL else 64))
instruction = "Write the order as JSON with item, quantity, city and date (MM-DD)."
reply = conversation.ask(f"{instruction}\nWe need seven ladders in Naples by June 3rd.", lambda text: None)
print(reply.answer.text)

# %% [markdown]
# ## Read on
#
# - The run folder holds the adapter, `report.html` with everything shown here and more, `metrics.jsonl` and
#   `run.json`.
# - [docs/sft.md](../docs/sft.md): fine-tuning, key by key; the [README](../README.md) lists the other
#   recipes.
# - [docs/architecture.md](../docs/architecture.md): how rows are packed, and which tokens count.
# - [docs/data.md](../docs/data.md) and [data/README.md](../data/README.md): forms of data, and these orders.
# - [02_lora_qlora.ipynb](02_lora_qlora.ipynb): LoRA, and the same with the base held in 4 bits.
