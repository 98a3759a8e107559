"""Keys of adapters: what is refused before anything heavy is loaded, and with which advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_align.best_of_n.recipe import parse_best_of_n
from hf_align.errors import UserError
from hf_align.preference.recipe import parse_dpo
from hf_align.reward_model.recipe import parse_reward
from hf_align.rl.recipe import parse_ppo
from hf_align.sft.recipe import parse_sft

COMMON = {"model_name_or_path": "models/x", "datasets": "data/x.jsonl"}
PARSERS: dict[str, Any] = {
    "sft": parse_sft,
    "dpo": parse_dpo,
    "reward": parse_reward,
    "ppo": parse_ppo,
    "best-of-n": parse_best_of_n,
}


def parse(tmp_path: Path, stage: str, **keys: Any) -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in {**COMMON, **keys}.items()))
    return PARSERS[stage](["--config", str(path)])


@pytest.mark.parametrize(
    ("stage", "keys", "message"),
    [
        ("sft", {"adapter": "bottlenck"}, r"recipe\.yaml:3: adapter: found 'bottlenck'.*'bottleneck'"),
        ("sft", {"adapter": "xlora"}, r"found 'xlora'"),
        (
            "sft",
            {"adapter": "prompt", "neftune_noise_alpha": 5},
            r"neftune_noise_alpha: the noise follows",
        ),
        ("sft", {"adapter": "bottleneck", "lora_r": 4}, r"no effect.*adapter is bottleneck"),
        ("sft", {"adapter": "lora", "bottleneck_width": 4}, r"no effect.*adapter: bottleneck"),
        ("sft", {"adapter": "bottleneck", "bottleneck_placement": "pfeifer"}, r"'pfeiffer'"),
        ("sft", {"adapter": "bottleneck", "bottleneck_width": 0}, r"at least 1"),
        ("sft", {"adapter": "bottleneck", "bottleneck_reduction": 1}, r"above 1"),
        ("sft", {"adapter": "qlora"}, r"adapter: qlora is LoRA on a base held in 4 bits.*load_in_4bit: true"),
        ("sft", {"adapter": "lora", "trainable": ["norms"]}, r"trainable.*no effect.*adapter is lora"),
        ("sft", {"modules_to_save": ["lm_head"]}, r"modules_to_save.*no effect.*adapter is none"),
        ("sft", {"peft_options": {"r": 4}}, r"peft_options.*no effect"),
        ("sft", {"adapter": "bitfit", "peft_options": {"r": 4}}, r"the adapter is not PEFT's"),
        (
            "sft",
            {"adapter": "boft", "peft_options": {"boft_blok_size": 4}},
            r"'boft_blok_size' of boft.*'boft_block_size'",
        ),
        ("sft", {"adapter": "lora", "peft_options": {"r": 4}}, r"write lora_r"),
        ("sft", {"adapter": "lora", "init_lora_weights": "evva"}, r"expected one of: default"),
        ("sft", {"adapter": "lora", "eva_rho": 1.0}, r"eva_rho.*no effect.*init_lora_weights"),
        ("sft", {"adapter": "lora", "init_lora_weights": "eva", "eva_rho": 0.5}, r"at least 1"),
        (
            "sft",
            {"adapter": "lora", "peft_options": {"eva_config": {"rho": 1}}},
            r"'eva_config' has keys of its own: eva_rho",
        ),
        (
            "sft",
            {
                "adapter": "lora",
                "init_lora_weights": "eva",
                "streaming": True,
                "max_steps": 5,
                "save_strategy": "no",
            },
            r"eva looks at the training rows before training begins",
        ),
        (
            "best-of-n",
            {"adapter": "lora", "init_lora_weights": "eva", "train": True, "reward_functions": ["r.py:f"]},
            r"eva looks at the training rows before training begins",
        ),
        (
            "sft",
            {"adapter": "lora", "init_lora_weights": "eva", "train_new_tokens": True},
            r"init_lora_weights: PEFT's eva takes single rows",
        ),
        (
            "sft",
            {
                "adapter": "lora",
                "train_new_tokens": True,
                "peft_options": {"trainable_token_indices": [5]},
            },
            r"train_new_tokens: both say which rows are trained",
        ),
        ("sft", {"adapter": "lora", "init_lora_weights": "loftq"}, r"set load_in_4bit: true"),
        ("sft", {"adapter": "bottleneck", "train_new_tokens": True}, r"train_new_tokens.*no effect"),
        (
            "sft",
            {"adapter": "lora", "init_lora_weights": "pissa", "use_dora": True},
            r"init_lora_weights: DoRA takes the norms",
        ),
        (
            "sft",
            {
                "adapter": "p_tuning",
                "load_best_model_at_end": True,
                "eval_strategy": "epoch",
                "eval_split_size": 0.1,
            },
            r"not the network that computes them",
        ),
        ("dpo", {"adapter": "prompt"}, r"loss without a reference"),
        ("dpo", {"adapter": "lora", "init_lora_weights": "olora"}, r"precompute_ref_log_probs: true"),
        ("reward", {"adapter": "bottleneck", "save_merged": True}, r"bottleneck cannot be merged"),
        (
            "ppo",
            {"adapter": "bottleneck", "bottleneck_dropout": 0.1, "reward_model": "x"},
            r"bottleneck_dropout",
        ),
    ],
)
def test_refused_with_advice(tmp_path: Path, stage: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(tmp_path, stage, **keys)


@pytest.mark.parametrize(
    ("stage", "keys"),
    [
        ("sft", {"adapter": "boft", "peft_options": {"boft_block_size": 4}}),
        ("dpo", {"adapter": "prompt", "loss": "simpo"}),
        ("dpo", {"adapter": "lora", "init_lora_weights": "pissa", "precompute_ref_log_probs": True}),
        ("reward", {"adapter": "bitfit"}),
        ("sft", {"adapter": "qlora", "load_in_4bit": True}),
    ],
)
def test_taken(tmp_path: Path, stage: str, keys: dict[str, Any]) -> None:
    assert parse(tmp_path, stage, **keys).adapter.adapter == keys["adapter"]


def test_only_what_can_be_merged_is_merged(tmp_path: Path) -> None:
    assert parse(tmp_path, "reward", adapter="ia3").merges
    assert not parse(tmp_path, "reward", adapter="bottleneck").merges
    assert not parse(tmp_path, "reward", trainable=["norms"]).merges
