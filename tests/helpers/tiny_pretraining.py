"""A tiny repetitive corpus, tokenizers of three kinds for it, and runs of the pretrain command on a CPU."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from hf_align.commands import pretrain
from hf_align.tokenization.recipe import TokenizerOptions
from hf_align.tokenization.train import train_tokenizer

PEOPLE = ("fox", "dog", "player", "river", "party", "mountain")
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"tokenizer_type": "wordpiece", "vocab_size": 60},
    "roberta": {"tokenizer_type": "byte_level_bpe", "special_tokens": "roberta", "vocab_size": 290},
    "gpt": {"tokenizer_type": "byte_level_bpe", "vocab_size": 290},
    "t5": {"tokenizer_type": "unigram", "vocab_size": 60, "extra_ids": 20},
}
FAMILY_OF = {
    **dict.fromkeys(("bert", "spanbert", "albert"), "bert"),
    **dict.fromkeys(("roberta", "bart"), "roberta"),
    **dict.fromkeys(("gpt2", "llama", "qwen3"), "gpt"),
    "t5": "t5",
}
SMALL = {
    "bert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "albert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 32},
    "t5": {"d_model": 32, "num_heads": 2, "d_kv": 16, "d_ff": 64, "dropout_rate": 0.0},
    "bart": {
        "d_model": 32,
        **{
            f"{side}_{part}": value
            for side in ("encoder", "decoder")
            for part, value in (("attention_heads", 2), ("ffn_dim", 64), ("layers", 1))
        },
        "dropout": 0.0,
    },
    "gpt2": {"n_embd": 32, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64},
    "qwen3": {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "head_dim": 16,
    },
}
SMALL["spanbert"] = SMALL["bert"]
for _name in ("bert", "roberta", "spanbert"):
    SMALL[_name] = SMALL[_name] | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def documents(count: int, start: int = 0) -> list[str]:
    """Documents of short sentences, each about one word: the context tells it, frequencies do not."""
    named = (PEOPLE[number % len(PEOPLE)] for number in range(start, start + count))
    return [" ".join([f"{person} {person} {person} {person}."] * 8) for person in named]


def write_documents(path: Path, count: int, start: int = 0) -> str:
    lines = (json.dumps({"text": text}) for text in documents(count, start))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def make_inputs(folder: Path, *, train: int = 24, held_out: int = 6) -> dict[str, Any]:
    """Recipe keys: a file of documents, and one of held-out ones."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "datasets": write_documents(folder / "train.jsonl", train),
        "eval_datasets": write_documents(folder / "heldout.jsonl", held_out, start=5),
    }


def tokenizer_of(architecture: str, folder: Path) -> str:
    """The folder of a saved tokenizer for ``architecture``."""
    family = FAMILY_OF[architecture]
    path = folder / f"tokenizer-{family}"
    if not path.is_dir():
        options = TokenizerOptions(**FAMILIES[family])
        train_tokenizer(lambda: iter(documents(12)), options, show_progress=False).save_pretrained(path)
    return str(path)


def recipe(inputs: dict[str, Any], output_dir: Path, architecture: str, /, **options: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {
        **inputs,
        "architecture": architecture,
        "config_overrides": SMALL[architecture],
        "tokenizer_name_or_path": tokenizer_of(architecture, output_dir.parent),
        "output_dir": str(output_dir),
        "use_cpu": True,
        "precision": "fp32",
        "block_length": 48,
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "learning_rate": 0.01,
        "num_samples": 1,
        "sample_max_new_tokens": 4,
        "dataset_cache": False,
        "save_strategy": "no",
        **options,
    }
    return {key: value for key, value in keys.items() if value is not None}


def run(inputs: dict[str, Any], output_dir: Path, architecture: str, /, **options: Any) -> dict[str, Any]:
    """Run the command; an option of None leaves a key out."""
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps(recipe(inputs, output_dir, architecture, **options)), encoding="utf-8")
    return pretrain.main(["--config", str(path)])


def every_pair() -> list[tuple[str, str]]:
    """(architecture, objective) for every objective, each with the architecture of its paper."""
    from hf_align.pretraining.recipe import OWN_OBJECTIVE

    own = {
        objective: architecture for architecture, objective in OWN_OBJECTIVE.items() if architecture != "gpt2"
    }
    others = {"wwm": "bert", "prefix_lm": "t5", "decoder_prefix_lm": "gpt2"}
    pairs = itertools.chain(own.items(), others.items(), [("causal", "gpt2")])
    return [(architecture, objective) for objective, architecture in pairs]
