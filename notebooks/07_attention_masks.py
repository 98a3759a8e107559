# %% [markdown]
# # What a model can see: attention masks and patterns
#
# Encoders, decoders and encoder-decoder models differ in one thing above all: which tokens may look at
# which. This notebook makes that visible. The masks below are not drawn from a rule but *measured*: a token
# is taken to see another where changing the other's embedding changes what comes out. So they also show what
# padding, packing and shared prompts do in this project's own attention.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 takes tiny random models in the last section, and fewer steps there.
import os
import tempfile

from notebook_support import arguments, default_encoder, default_model, tiny_chat_model, tiny_encoder

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp()
MODEL = tiny_chat_model(f"{RUNS}/chat") if SMALL else default_model()
ENCODER = tiny_encoder(f"{RUNS}/encoder") if SMALL else default_encoder()

# %%
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

Matrix = np.ndarray


def influence(states: Callable[[torch.Tensor], torch.Tensor], embeddings: torch.Tensor) -> Matrix:
    """(outputs, inputs) True where an output depends on an input.

    ``states``: embeddings (T, d) to outputs (U, d). The slope of each output in a random direction is
    taken with respect to every input; where it is exactly zero, the output cannot see the input.
    """
    embeddings = embeddings.detach().requires_grad_()
    outputs = states(embeddings)
    direction = torch.randn(outputs.shape[1], generator=torch.Generator().manual_seed(0))
    rows = []
    for output in outputs:
        (slope,) = torch.autograd.grad(output @ direction, embeddings, retain_graph=True)
        rows.append(slope.abs().sum(dim=1) > 0)
    return torch.stack(rows).numpy()


def draw(axes: plt.Axes, seen: Matrix, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """A cell for each pair: dark where the row's token sees the column's."""
    axes.pcolormesh(seen[::-1].astype(float), cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=1)
    axes.set_aspect("equal")
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90)
    axes.set_yticks(np.arange(len(rows)) + 0.5, list(rows)[::-1])
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(title, fontsize=10)
    for side in axes.spines.values():
        side.set_visible(False)


# %% [markdown]
# ## Three kinds of models
#
# Attention computes (Vaswani et al. 2017, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762), equation 1)
#
# $$\text{Attention}(Q, K, V) = \text{softmax}\left(\frac{Q K^\top}{\sqrt{d}} + M\right) V$$
#
# with a mask $M$ that is $0$ where a query may see a key and $-\infty$ where not. Which of the two is a
# property of the architecture, not of its weights, so small random models show it. Rows are tokens that
# look, columns those that are looked at.

# %%
WORDS = "the old lamp stands on the table".split()
SMALLEST = {"vocab_size": 64, "pad_token_id": 0}
torch.manual_seed(0)
bert = AutoModel.from_config(
    AutoConfig.for_model(
        "bert", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, **SMALLEST
    )
).eval()
llama = AutoModel.from_config(
    AutoConfig.for_model(
        "llama", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, **SMALLEST
    )
).eval()
t5 = AutoModel.from_config(
    AutoConfig.for_model(
        "t5", d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0, **SMALLEST
    )
).eval()


def embedded(model: torch.nn.Module, count: int, first: int = 1) -> torch.Tensor:
    """(count, d) embeddings of different tokens."""
    return model.get_input_embeddings()(torch.arange(first, first + count))


text = embedded(bert, len(WORDS))
encoder = influence(lambda x: bert(inputs_embeds=x[None]).last_hidden_state[0], text)
text = embedded(llama, len(WORDS))
decoder = influence(lambda x: llama(inputs_embeds=x[None]).last_hidden_state[0], text)

ANSWER = ["<start>", "on", "the", "table"]
source, target = embedded(t5, len(WORDS)), embedded(t5, len(ANSWER), 20)
both = influence(
    lambda x: t5(
        inputs_embeds=x[None, : len(WORDS)], decoder_inputs_embeds=x[None, len(WORDS) :]
    ).last_hidden_state[0],
    torch.cat([source, target]),
)

figure, plots = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", width_ratios=[7, 7, 11])
draw(plots[0], encoder, WORDS, WORDS, "encoder (BERT): everything")
draw(plots[1], decoder, WORDS, WORDS, "decoder (Llama): what came before")
draw(plots[2], both, ANSWER, WORDS + ANSWER, "encoder-decoder (T5): the whole source, and before")
plots[2].axvline(len(WORDS), color="#c24e00", linewidth=1.5)
plt.show()

# %% [markdown]
# The diagonal is dark whatever the mask says: past attention, on the residual path, every token reaches its
# own output.
#
# An encoder may look both ways, so it cannot be trained to predict the next token, which it would see:
# tokens are hidden instead. A decoder may not look ahead, so every position of a text is a prediction at
# once. In an encoder-decoder model the decoder's tokens see all of the source (left of the line) through
# cross-attention, and each other like a decoder's.
#
# ## Padding
#
# In a padded batch the mask has a second task: pad tokens are to be seen by nobody. They still cost as much
# as others: their rows are computed and thrown away.

# %%
LENGTHS = [7, 4]
padded = [WORDS, WORDS[: LENGTHS[1]] + ["<pad>"] * 3]
mask = torch.tensor([[1] * length + [0] * (7 - length) for length in LENGTHS])
figure, plots = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for row, axes in enumerate(plots):
    seen = influence(
        lambda x, row=row: llama(inputs_embeds=x[None], attention_mask=mask[row][None]).last_hidden_state[0],
        text,
    )
    draw(axes, seen, padded[row], padded[row], f"row {row + 1} of a padded batch")
plt.show()

# %% [markdown]
# ## Packing: several sequences in one row
#
# Here sequences lie side by side instead, and attention is computed inside each segment: no token is
# padding, and none sees its neighbour. `Segments` holds where each begins; nothing of the size $T \times T$
# is ever built.
#
# The right picture shows the trap that this avoids. With a mask of ones, as an ordinary batch has it, the
# same row lets every sequence see those before it: training would still run, on something else.

# %%
from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.inputs import model_inputs
from hf_align.types import Batch, ComparisonRow, TokenizedRow

SEQUENCES = [["the", "lamp", "is", "on"], ["it", "rains"], ["where", "is", "the", "key", "?"]]
labels = [word for sequence in SEQUENCES for word in sequence]


def as_row(count: int, first: int) -> TokenizedRow:
    return TokenizedRow(np.arange(first, first + count, dtype=np.int32), np.ones(count, dtype=bool))


def seen_in(batch: Batch) -> Matrix:
    """What the tokens of a packed batch see in the model with segment attention."""
    inputs = model_inputs(batch)
    ids = inputs.pop("input_ids")
    inputs.pop("shift_labels")
    return influence(
        lambda x: llama(inputs_embeds=x[None], use_cache=False, **inputs).last_hidden_state[0],
        llama.get_input_embeddings()(ids[0]),
    )


packed = pack_rows([as_row(len(sequence), 10 * (i + 1)) for i, sequence in enumerate(SEQUENCES)])
ones = torch.ones_like(packed.input_ids)
leaking = influence(
    lambda x: llama(inputs_embeds=x[None], attention_mask=ones).last_hidden_state[0],
    llama.get_input_embeddings()(packed.input_ids[0]),
)
print("packed:", enable_segment_attention(llama), "- prompts can be shared:", shares_prefixes(llama))
apart = seen_in(packed)

figure, plots = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
draw(plots[0], apart, labels, labels, f"segments: {int(apart.sum())} pairs")
draw(plots[1], leaking, labels, labels, f"one mask of ones: {int(leaking.sum())} pairs")
plt.show()
print("positions:", packed.position_ids[0].tolist())
print(
    "segments: ", list(zip(packed.segments.starts, packed.segments.lengths, strict=True)), "(start, length)"
)

# %% [markdown]
# ## A prompt shared by two answers
#
# Where answers to one prompt are compared or sampled, the prompt is computed once. It is a segment, and each
# answer is a segment that names it as its parent: the answer sees the prompt and itself, never the other
# answer, and its positions go on from the prompt's. Each branch begins with the last token of the prompt,
# which predicts the answer's first token and is therefore computed once in each.

# %%
from hf_align.data.comparisons.batches import collate_comparisons

PROMPT, ANSWERS = ["where", "is", "the"], [["key", "on", "the", "hook"], ["key", "no", "idea"]]
prefix = np.arange(1, 4, dtype=np.int32)
branches = tuple(as_row(len(words), 20 + 10 * k) for k, words in enumerate(ANSWERS))
compared = ComparisonRow(prefix, branches, np.array([1.0, 0.0]))
tree = collate_comparisons([compared], packed=True).inputs
labels = [
    f"{word} {place}"
    for word, place in zip([*PROMPT, *ANSWERS[0], *ANSWERS[1]], tree.position_ids[0].tolist(), strict=True)
]
shared = seen_in(tree)

figure, axes = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
draw(axes, shared, labels, labels, "prompt, answer 1, answer 2 (word and position)")
for border in (len(PROMPT), len(PROMPT) + len(ANSWERS[0])):
    axes.axvline(border, color="#c24e00", linewidth=1)
    axes.axhline(len(labels) - border, color="#c24e00", linewidth=1)
plt.show()
print("parents of the segments:", tree.segments.parents)

# %% [markdown]
# This is exact, not an approximation: the states of each answer are those that the whole sequence has when
# it is computed by itself.

# %%
with torch.no_grad():
    inputs = model_inputs(tree)
    inputs.pop("shift_labels")
    states = llama(**inputs, use_cache=False).last_hidden_state[0]
    start = len(PROMPT)
    for k, words in enumerate(ANSWERS):
        alone = llama(torch.from_numpy(compared.sequence(k).input_ids).long()[None]).last_hidden_state[
            0, len(PROMPT) :
        ]
        difference = (states[start : start + len(words)] - alone).abs().max()
        print(f"answer {k + 1}: largest difference {difference:.1e}")
        start += len(words)

# %% [markdown]
# On the project's own data: a pair of answers as it is trained, the shared part once, marked tokens in the
# loss.

# %%
from hf_align.data.prepare import prepare_datasets
from hf_align.modeling.loading import load_tokenizer
from hf_align.preference.recipe import parse_dpo
from hf_align.reporting.inline import show_rows

config = parse_dpo(arguments("recipes/dpo/quickstart.yaml", model_name_or_path=MODEL))
tokenizer = load_tokenizer(config.model)
pairs = prepare_datasets(config.data, tokenizer, seed=0, comparisons=True)
show_rows([pairs.train[0]], tokenizer)

# %% [markdown]
# ## Two more masks
#
# A sliding window (Beltagy et al. 2020, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150); Mistral,
# [arXiv 2310.06825](https://arxiv.org/abs/2310.06825)) bounds how far a token looks back; several layers
# reach further. A prefix language model (Raffel et al. 2020, [arXiv
# 1910.10683](https://arxiv.org/abs/1910.10683), figure 4) reads its first part both ways and writes the rest
# from left to right; its mask comes with the batch.

# %%
from hf_align.pretraining.collators import make_collator, objective

WINDOW = 3
settings = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64}
figure, plots = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for layers, axes in zip((1, 2), plots, strict=False):
    mistral = AutoModel.from_config(
        AutoConfig.for_model(
            "mistral", sliding_window=WINDOW, num_hidden_layers=layers, **settings, **SMALLEST
        )
    ).eval()
    seen = influence(
        lambda x, m=mistral: m(inputs_embeds=x[None]).last_hidden_state[0], embedded(mistral, len(WORDS))
    )
    draw(axes, seen, WORDS, WORDS, f"window of {WINDOW}, {layers} layer{'s' if layers > 1 else ''}")

print(objective("decoder_prefix_lm").title, "-", objective("decoder_prefix_lm").source)
collator = make_collator("decoder_prefix_lm", tokenizer, seed=0)
batch = collator([{"input_ids": list(range(10, 17)), "index": 3, "epoch": 0}])
allowed = (batch["attention_mask"][0, 0] == 0).numpy()
draw(plots[2], allowed, WORDS, WORDS, "prefix language model")
plt.show()

# %% [markdown]
# ## What is made of it: patterns
#
# A mask says where a token may look; the weights say where it does. Below are three heads of the chat model
# on one sentence: the one that looks most at the token before, the one that looks most at the very first
# token (an *attention sink*, Xiao et al. 2023, [arXiv 2309.17453](https://arxiv.org/abs/2309.17453)), and
# the one that spreads most evenly. A random model has no such heads: its rows are all alike.

# %%
SENTENCE = "The old lamp stands on the table, and the cat sleeps beside it."
MEASURES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "the token before": lambda weights: weights.diagonal(-1, dim1=2, dim2=3).mean(-1),
    "the token after": lambda weights: weights.diagonal(1, dim1=2, dim2=3).mean(-1),
    "the first token": lambda weights: weights[:, :, 1:, 0].mean(-1),
    "all tokens alike": lambda weights: -(weights * weights.clamp_min(1e-9).log()).sum(-1).mean(-1),
}


def draw_heads(folder: str, wanted: Sequence[str]) -> None:
    """For each measure the head of the model in ``folder`` that has most of it, on the sentence."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    with torch.no_grad():
        weights = torch.stack(model(ids, output_attentions=True).attentions)[:, 0]  # (layers, heads, T, T)
    tokens = [token.replace("Ġ", "·") for token in tokenizer.convert_ids_to_tokens(ids[0])]
    _, plots = plt.subplots(1, len(wanted), figsize=(13, 4.4), layout="constrained")
    for axes, name in zip(plots, wanted, strict=True):
        layer, head = divmod(int(MEASURES[name](weights).argmax()), weights.shape[1])
        axes.imshow(weights[layer, head], cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
        axes.set_yticks(range(len(tokens)), tokens, fontsize=7)
        axes.set_title(f"looks at {name} (layer {layer + 1}, head {head + 1})", fontsize=10)
    plt.show()


draw_heads(MODEL, ["the token before", "the first token", "all tokens alike"])

# %% [markdown]
# The same for an encoder. Nothing forbids it to look ahead, and it has heads that do; those with nothing to
# look for rest on a special token at one of the ends (Clark et al. 2019, [arXiv
# 1906.04341](https://arxiv.org/abs/1906.04341), section 3).

# %%
draw_heads(ENCODER, ["the token before", "the token after", "the first token"])

# %% [markdown]
# Cross-attention can be watched while it is learned. A T5 of one layer on each side learns to write eight
# symbols backwards; in a few seconds some of its heads look at the symbol that is to be written next, which
# is the diagonal from the upper right.

# %%
from transformers import AutoModelForSeq2SeqLM, T5Config

torch.manual_seed(0)
shape = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4, "dropout_rate": 0.0}
sizes = T5Config(vocab_size=24, decoder_start_token_id=0, **shape)
reverser = AutoModelForSeq2SeqLM.from_config(sizes, attn_implementation="eager")
optimizer = torch.optim.AdamW(reverser.parameters(), lr=5e-3)
symbols = torch.randint(2, 24, (1, 8))
before = reverser(symbols, labels=symbols.flip(1), output_attentions=True).cross_attentions[0][0]
for _ in range(200 if SMALL else 500):
    rows = torch.randint(2, 24, (64, 8))
    loss = reverser(rows, labels=rows.flip(1)).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
after = reverser(symbols, labels=symbols.flip(1), output_attentions=True)
head = int(after.cross_attentions[0][0].flip(-1).diagonal(dim1=1, dim2=2).mean(-1).argmax())

figure, plots = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for axes, title, found in zip(
    plots, ("before", "after"), (before, after.cross_attentions[0][0]), strict=True
):
    axes.imshow(found[head].detach(), cmap="Blues", vmin=0, vmax=1)
    axes.set(title=f"cross-attention {title} training", xlabel="source", ylabel="written")
    axes.set_xticks(range(8), symbols[0].tolist())
    axes.set_yticks(range(8), symbols[0].flip(0).tolist())
plt.show()
right = (after.logits.argmax(-1) == symbols.flip(1)).float().mean()
print(f"loss {loss.item():.2f}; {right:.0%} of these symbols predicted right, head {head + 1} shown")

# %% [markdown]
# ## Read on
#
# - [docs/architecture.md](../docs/architecture.md): segments, shared prompts, and how it is found out by
#   trying whether a model can be packed.
# - [docs/pretraining-objectives.md](../docs/pretraining-objectives.md): what each kind of model is trained
#   on.
# - [docs/preferences.md](../docs/preferences.md): where shared prompts pay.
# - [01_quickstart_sft.ipynb](01_quickstart_sft.ipynb): from the beginning.
