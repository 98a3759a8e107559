# %% [markdown]
# # Pre-training: BERT, T5 and GPT
#
# Three families of models begin with three ways of hiding text: BERT fills in masked tokens, T5 writes the
# spans that were taken out, GPT predicts the next token. This notebook trains a tokenizer for each, shows
# what a batch looks like, trains a small model of each from random weights on the documentation that Python
# itself carries, and asks how much of what it learned came from context.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute: less text, smaller vocabularies, fewer steps.
import os
import tempfile

from notebook_support import arguments

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
TEXT = {"path": "python_docs", "max_rows": 400 if SMALL else None}
HELD_OUT = {"path": "python_docs", "split": "test", "max_rows": 60 if SMALL else None}
DATA = {"datasets": [TEXT], "eval_datasets": [HELD_OUT]}

# %% [markdown]
# ## Three tokenizers
#
# Each family has its own: WordPiece for BERT, Unigram with sentinels for T5, byte-level BPE for GPT. All are
# trained on the same text.

# %%
from hf_align.commands import tokenizer

VOCABULARY = {"vocab_size": 1200} if SMALL else {}
RECIPES = {"bert": "wordpiece", "t5": "unigram", "gpt": "quickstart"}
for family, recipe in RECIPES.items():
    options = {**DATA, **VOCABULARY, "output_dir": f"{RUNS}/tokenizer_{family}"}
    # The quickstart compares itself with a model's vocabulary, which is not needed here.
    more = {"compare_with": None} if family == "gpt" else {}
    tokenizer.main(arguments(f"recipes/tokenizer/{recipe}.yaml", **options, **more))

# %%
from hf_align.modeling.loading import read_tokenizer

SENTENCE = "Return the number of bytes that were written to the file."
TOKENIZERS = {family: read_tokenizer("tokenizer", f"{RUNS}/tokenizer_{family}") for family in RECIPES}
for family, each in TOKENIZERS.items():
    print(f"{family:5} {each.tokenize(SENTENCE)}")

# %% [markdown]
# ## What a batch looks like
#
# `inputs` is what the model reads, `targets` what it has to say. The functions are those that training uses;
# the noise of an example depends on the seed, the epoch and its number alone.
#
# **BERT** (Devlin et al. 2019, [arXiv 1810.04805](https://arxiv.org/abs/1810.04805), section 3.1). 15 % of
# the tokens are chosen; of these 80 % become `[MASK]`, 10 % a random token, 10 % stay. With it a second
# task: does the second segment follow the first?
#
# **T5** (Raffel et al. 2020, [arXiv 1910.10683](https://arxiv.org/abs/1910.10683), section 3.1.4). Spans
# become sentinels; the targets repeat the sentinels with what stood there.
#
# **GPT** (Radford et al. 2018). Every token is predicted from those before it.

# %%
from hf_align.pretraining.collators.show import show_objective

TEXTS = [
    "A file object has methods to read and to write. When it is closed, the buffer is written first. "
    "The method returns the number of bytes.",
    "The list is sorted in place. The key is a function of one argument. It is called once for each element.",
]
for family, objective in (("bert", "mlm_nsp"), ("t5", "span_corruption"), ("gpt", "causal")):
    print(show_objective(objective, TOKENIZERS[family], TEXTS, max_length=48, seed=1), end="\n\n\n")

# %% [markdown]
# ## Training
#
# Models of 2 layers and 128 units (2 + 2 for T5). The loss is the mean negative log-likelihood of a target,
# in nats. Beside it stands the unigram entropy of the very targets it is measured on, $H = -\sum_v p_v \log
# p_v$ with $p_v$ their own frequencies: no model without context can be better, not even one that knows in
# advance how often each token occurs. What lies below that line came from context.

# %%
from hf_align.commands import pretrain

STEPS = {"bert": 60, "t5": 60, "gpt": 80} if SMALL else {"bert": 900, "t5": 500, "gpt": 600}
NAMES = {"bert": "bert_tiny", "t5": "t5_tiny", "gpt": "quickstart"}
records = {}
for family, name in NAMES.items():
    options = {
        **DATA,
        "tokenizer_name_or_path": f"{RUNS}/tokenizer_{family}",
        "output_dir": f"{RUNS}/{family}",
    }
    options |= {"max_steps": STEPS[family], "eval_steps": STEPS[family] // 4, "save_strategy": "no"}
    options |= {"logging_steps": max(1, STEPS[family] // 40), "num_samples": 3}
    # One stage for all of them.
    options |= {"stages": [], "warmup_steps": 0.1}
    if SMALL:
        options |= {"block_length": 64, "per_device_train_batch_size": 16, "learning_rate": 0.004}
    records[family] = pretrain.main(arguments(f"recipes/pretrain/{name}.yaml", **options))

# %%
import matplotlib.pyplot as plt

from hf_align.runs.metrics import evaluation_rows, read_metrics, series, training_rows

TITLES = {"bert": "BERT, masked tokens", "t5": "T5, spans", "gpt": "GPT, next token"}
figure, plots = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for axes, (family, title) in zip(plots, TITLES.items(), strict=True):
    rows = read_metrics(f"{RUNS}/{family}/metrics.jsonl").rows
    held_out = evaluation_rows(rows)
    # BERT's training loss is that of both tasks; its held-out tokens are counted by themselves.
    loss = "eval_token_loss" if "eval_token_loss" in held_out[0] else "eval_loss"
    training = series(training_rows(rows), "loss")
    axes.plot(training.steps, training.values, color="#7fb8d8", linewidth=1, label="training")
    found, entropy = series(held_out, loss), series(held_out, "eval_unigram_entropy")
    axes.plot(found.steps, found.values, "D-", color="#0072b2", markersize=4, label="held-out tokens")
    axes.axhline(entropy.values[-1], color="#c24e00", linestyle="--", label="unigram entropy")
    axes.set(title=title, xlabel="step", ylabel="nats")
plots[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## What they write
#
# The encoder fills the hidden tokens of held-out text, the encoder-decoder writes its targets, the decoder
# goes on with a text. First the masked tokens:

# %%
from hf_align.reporting.inline import show_run

show_run(f"{RUNS}/bert", "pretraining", "generations")

# %%
show_run(f"{RUNS}/gpt", "pretraining", "generations")

# %% [markdown]
# ## Read on
#
# - [docs/pretraining-objectives.md](../docs/pretraining-objectives.md): all ten objectives, each with the
#   rules of its paper.
# - [docs/pretraining.md](../docs/pretraining.md): models by size, packing, schedules in stages, averaged
#   checkpoints.
# - [docs/tokenizers.md](../docs/tokenizers.md): the tokenizers, and extending a model's vocabulary for
#   another language.
# - [06_reviews.ipynb](06_reviews.ipynb): what a pre-trained encoder is good for.
