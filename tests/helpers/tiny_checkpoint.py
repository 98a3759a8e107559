"""A folder that holds a whole tiny model: weights, tokenizer and chat template, made without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SENTENCES = [
    "Write the order as JSON with item, quantity and city.",
    "Please send twelve lamps to Oslo.",
    "user assistant system",
    '{"item": "lamps", "quantity": 12, "city": "Oslo"}',
    "你好，世界。",
]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer(vocab_size: int = 320) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML markers; the end-of-turn token is the end-of-sequence token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )


def save_tiny_checkpoint(folder: Path, **options: Any) -> str:
    """Save a random Llama and its tokenizer to ``folder``; ``options`` go into its configuration."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **options,
        },
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_orders(path: Path, rows: int, *, start: int = 0) -> str:
    """Alpaca rows of varying length; row i asks for i pieces."""
    cities = ["Oslo", "Rome", "Lima", "Cairo"]
    with path.open("w", encoding="utf-8") as stream:
        for i in range(start, start + rows):
            row = {
                "instruction": "Write the order as JSON with item, quantity and city.",
                "input": f"Please send {i} lamps to {cities[i % 4]}." + " Thank you." * (i % 3),
                "output": json.dumps({"item": "lamps", "quantity": i, "city": cities[i % 4]}),
            }
            stream.write(json.dumps(row) + "\n")
    return str(path)
