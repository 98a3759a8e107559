# %% [markdown]
# # Reviews: a fine-tuned encoder, a prompted chat model, a service
#
# Is a review positive or negative? Three ways to find out: an encoder (BERT) fine-tuned on 480 labelled
# reviews, a chat model on this machine that is only asked, and the same question put to a service with an
# OpenAI-compatible interface. All three answer the same 160 held-out reviews, and the last section puts them
# side by side.

# %%
# HF_ALIGN_NOTEBOOK_SMALL=1 runs the notebook in a minute, with tiny random models and a few steps.
import os
import tempfile

from notebook_support import (
    arguments,
    default_encoder,
    default_model,
    serve_chat,
    tiny_chat_model,
    tiny_encoder,
)

SMALL = os.environ.get("HF_ALIGN_NOTEBOOK_SMALL") == "1"
RUNS = tempfile.mkdtemp() if SMALL else "runs/notebooks"
ENCODER = tiny_encoder(f"{RUNS}/encoder") if SMALL else default_encoder()
CHAT = tiny_chat_model(f"{RUNS}/chat") if SMALL else default_model()
# The address of a service, such as http://localhost:8000/v1 of `transformers serve`, and the model there.
# Without one, a stand-in is started below. A key is read from the variable OPENAI_API_KEY.
SERVICE = os.environ.get("HF_ALIGN_NOTEBOOK_SERVICE")
SERVICE_MODEL = os.environ.get("HF_ALIGN_NOTEBOOK_SERVICE_MODEL", CHAT)
if SMALL:
    # Random weights would answer with neither of the two words.
    from hf_align.commands import sft

    taught = {
        "datasets": [{"path": "data/reviews_en.jsonl", "columns": {"input": "text", "output": "label"}}]
    }
    taught |= {
        "adapter": "none",
        "max_steps": 30,
        "learning_rate": 0.01,
        "num_samples": 0,
        "output_dir": f"{RUNS}/taught",
    }
    sft.main(arguments(model_name_or_path=CHAT, **taught))
    CHAT = f"{RUNS}/taught"

# %% [markdown]
# ## The reviews
#
# They were generated for this project, so that what makes them hard is known
# ([data/README.md](../data/README.md)). A third concedes something first: words of praise and of blame stand
# side by side there, and only the sentence says which of them counts. Held-out reviews are of other things,
# in other frames, and half of them use phrases that training never shows.

# %%
import json
from pathlib import Path

held_out = [json.loads(line) for line in Path("data/reviews_heldout.jsonl").read_text("utf-8").splitlines()]
held_out = held_out[: 48 if SMALL else None]
for row in held_out[:4]:
    print(f"{row['label']:9}{'concedes ' if row['concedes'] else '         '}{row['text']}")

# %% [markdown]
# ## An encoder, fine-tuned
#
# A linear layer reads the pooled state $h$ of the encoder, and both are trained with the cross-entropy of
# the class $c$ (Devlin et al. 2019, [arXiv 1810.04805](https://arxiv.org/abs/1810.04805), section 4.1):
#
# $$\mathcal{L} = -\log \text{softmax}(W h)_c$$

# %%
from hf_align.commands import classify
from hf_align.reporting.inline import show_run

options = {"model_name_or_path": ENCODER, "output_dir": f"{RUNS}/reviews", "save_strategy": "no"}
options |= {"datasets": [{"path": "data/reviews_en.jsonl", "format": "labelled_text"}]}
options |= {"eval_datasets": [{"path": "data/reviews_heldout.jsonl", "format": "labelled_text"}]}
options |= {
    "max_length": 128,
    "num_train_epochs": 3,
    "learning_rate": 2e-3 if SMALL else 2e-4,
}
bert_run = classify.main(arguments("recipes/classify/minilm.yaml", **options))

# %%
show_run(f"{RUNS}/reviews", "facts", "loss", "classification")

# %% [markdown]
# What was saved is a plain classifier of transformers; nothing of this project is needed to use it:

# %%
from transformers import pipeline

classifier = pipeline("text-classification", f"{RUNS}/reviews", device="cpu")
answers = {"BERT, fine-tuned": [found["label"] for found in classifier([row["text"] for row in held_out])]}

# %% [markdown]
# ## A chat model, asked
#
# No training: the review is put into a question, and the first of the two words in the reply counts as the
# answer. Few-shot prompting (Brown et al. 2020, [arXiv 2005.14165](https://arxiv.org/abs/2005.14165)) shows
# solved examples first, as earlier turns of the conversation. `Ask` is what `hf-align evaluate` asks with.

# %%
import re
from collections.abc import Callable, Sequence

from hf_align.evaluation.prompting import Ask
from hf_align.types import Example, Message


def example(row: dict[str, str]) -> Example:
    """A review as a question, with its answer."""
    question = f"{row['instruction']}\n{row['text']}"
    return Example("reviews", messages=(Message("user", question), Message("assistant", row["label"])))


train = [json.loads(line) for line in Path("data/reviews_en.jsonl").read_text("utf-8").splitlines()]
by_label = {label: [row for row in train if row["label"] == label] for label in ("positive", "negative")}
solved = [
    example(row)
    for pair in zip(by_label["positive"][:3], by_label["negative"][:3], strict=True)
    for row in pair
]
ASKS = {"no example": Ask(), "6 examples": Ask(shots=tuple(solved))}


def read_label(reply: str) -> str | None:
    """The first of the two words in a reply, or None."""
    found = re.search(r"positive|negative", reply.lower())
    return found[0] if found else None


def ask_all(who: str, reply_to: Callable[[Sequence[Sequence[Message]]], list[str]]) -> None:
    """Put every held-out review to ``reply_to`` in both ways, and keep the answers."""
    for name, ask in ASKS.items():
        # The last message is the answer that the row holds; it is not shown.
        conversations = [(ask.prompt(example(row)).messages or ())[:-1] for row in held_out]
        replies = reply_to(conversations)
        answers[f"{who}, {name}"] = [read_label(reply) for reply in replies]
        print(f"{who}, {name}: the first replies are {replies[:3]}")


# %%
from hf_align.config import ModelConfig
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling, chat_prompt_ids
from hf_align.sampling.stopping import stop_token_ids
from hf_align.saved_models.run_models import find_model, load_run_model

model, tokenizer = load_run_model(find_model(ModelConfig(CHAT, dtype="float32")))
LONGEST = 8


def reply_here(conversations: Sequence[Sequence[Message]]) -> list[str]:
    """The likeliest reply of the model on this machine to each conversation."""
    turns = [[{"role": turn.role, "content": turn.content} for turn in each] for each in conversations]
    written = sample_continuations(
        model,
        [chat_prompt_ids(tokenizer, each) for each in turns],
        Sampling(max_new_tokens=LONGEST),
        stop_ids=stop_token_ids(model, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        max_rows=32,
    )
    return [tokenizer.decode(each.tokens, skip_special_tokens=True) for each in written]


ask_all("here", reply_here)

# %% [markdown]
# ## The same through a service
#
# Only the function that gets the replies is another one: a client of any service with OpenAI's interface.
# With transformers' own server, which the extra `transformers[serving]` installs,
#
# ```
# transformers serve models/SmolLM2-135M-Instruct --dtype float32 --port 8000
# HF_ALIGN_NOTEBOOK_SERVICE=http://localhost:8000/v1 jupyter lab
# ```
#
# it asks that one. Where no address is given, a stand-in of a few lines speaks the same protocol and answers
# with the model from above, so its replies have to be the same.

# %%
from hf_align.evaluation.judging.chat_service import ChatService


def reply_as_service(messages: list[dict[str, str]]) -> str:
    return reply_here([[Message(turn["role"], turn["content"]) for turn in messages]])[0]


service = ChatService(SERVICE or serve_chat(reply_as_service), SERVICE_MODEL)
ask_all("service", lambda conversations: service.replies(conversations, max_tokens=LONGEST))
for name in ASKS:
    pairs = list(zip(answers[f"here, {name}"], answers[f"service, {name}"], strict=True))
    print(f"{name}: here and service agree on {sum(a == b for a, b in pairs)} of {len(pairs)}")

# %% [markdown]
# ## Side by side
#
# Accuracy with Wilson's 95 % interval: on all reviews, on those that speak with one voice, and on those that
# concede something. A reply with neither word is wrong. The dotted line is what guessing gives.

# %%
import matplotlib.pyplot as plt

from hf_align.statistics.calibration import wilson_interval

GROUPS = {
    "all": [True] * len(held_out),
    "one voice": [not row["concedes"] for row in held_out],
    "concede": [row["concedes"] for row in held_out],
}
COLORS = dict(zip(GROUPS, ("#3b3f45", "#0072b2", "#c24e00"), strict=True))
figure, axes = plt.subplots(figsize=(9, 0.75 * len(answers) + 0.8), layout="constrained")
for place, (name, given) in enumerate(answers.items()):
    for offset, (group, chosen) in enumerate(GROUPS.items()):
        right = [a == row["label"] for a, row, use in zip(given, held_out, chosen, strict=True) if use]
        share = sum(right) / len(right)
        low, high = wilson_interval(share, len(right))
        height = place + 0.22 * (offset - 1)
        axes.plot([low, high], [height, height], color=COLORS[group], linewidth=1.5)
        axes.plot(share, height, "o", color=COLORS[group], label=group if place == 0 else None)
    right = sum(answer == row["label"] for answer, row in zip(given, held_out, strict=True))
    print(f"{name:22} {right / len(given):6.1%} right, {given.count(None)} unreadable")
axes.axvline(0.5, color="#888888", linestyle=":")
axes.set(yticks=range(len(answers)), yticklabels=list(answers), xlim=(0, 1), xlabel="accuracy")
axes.invert_yaxis()
axes.legend(frameon=False, loc="lower left", ncols=3, bbox_to_anchor=(0, 1))
plt.show()

# %% [markdown]
# Read the picture with its intervals: with 160 reviews a few points between two of them mean little.
# Training needs labels and asking needs none; a larger model behind the service changes the picture without
# a change in the code.
#
# ## Read on
#
# - [docs/classification.md](../docs/classification.md): heads on any model, adapters or the head alone, the
#   figures.
# - [docs/evaluation.md](../docs/evaluation.md): the same prompts in `hf-align evaluate`, chain of thought
#   and self-consistency, a service as a judge.
# - [data/README.md](../data/README.md): how the reviews were made.
# - [07_attention_masks.ipynb](07_attention_masks.ipynb): what each kind of model can see.
