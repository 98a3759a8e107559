"""Every adapter method, everything that is asked of each, and where it is refused and why.

The table in docs/adapters.md is made from this one: ``python tests/helpers/adapter_matrix.py`` prints it.
"""

from __future__ import annotations

from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": "lora", "lora_r": 4},
    "lora, DoRA": {"adapter": "lora", "lora_r": 4, "use_dora": True},
    "lora, pissa": {"adapter": "lora", "lora_r": 4, "init_lora_weights": "pissa"},
    "lora, olora": {"adapter": "lora", "lora_r": 4, "init_lora_weights": "olora"},
    "lora, eva": {"adapter": "lora", "lora_r": 4, "init_lora_weights": "eva"},
    "lora, loftq": {"adapter": "lora", "lora_r": 4, "init_lora_weights": "loftq", "load_in_4bit": True},
    "qlora": {"adapter": "qlora", "lora_r": 4, "load_in_4bit": True},
    "prompt": {"adapter": "prompt", "num_virtual_tokens": 3},
    "p_tuning": {"adapter": "p_tuning", "num_virtual_tokens": 3},
    "prefix": {"adapter": "prefix", "num_virtual_tokens": 3},
    "ia3": {"adapter": "ia3"},
    "ln_tuning": {"adapter": "ln_tuning"},
    "bottleneck, houlsby": {
        "adapter": "bottleneck",
        "bottleneck_width": 4,
        "bottleneck_placement": "houlsby",
    },
    "bottleneck, pfeiffer": {"adapter": "bottleneck", "bottleneck_width": 4},
    "bottleneck, parallel": {
        "adapter": "bottleneck",
        "bottleneck_width": 4,
        "bottleneck_placement": "parallel",
    },
    "bitfit": {"adapter": "bitfit"},
    "ladder": {"adapter": "ladder", "ladder_reduction_factor": 4},
    "vera (any other of PEFT)": {"adapter": "vera", "peft_options": {"r": 4}},
    "trainable": {"trainable": ["last_k:1", "norms"]},
}
"""Recipe keys of each method, for a Llama with 2 blocks of width 32 whose layers have biases."""

OWN = ("bottleneck, houlsby", "bottleneck, pfeiffer", "bottleneck, parallel", "bitfit", "ladder")

CHECKS: dict[str, str] = {
    "start": "outputs at the start are the base's",
    "weights": "only its own weights move",
    "save": "saved and loaded, it gives the same outputs",
    "off": "switched off, it gives the base's outputs",
    "named": "two of them on one base",
    "merge": "can be merged into a plain model",
    "pack": "sequences are packed",
    "sft": "",
    "reward": "",
    "dpo": "with the base as reference",
    "ppo": "",
    "checkpointing": "gradient checkpointing",
    "resume": "goes on from a checkpoint as if never stopped",
    "processes": "two processes train what one trains",
    "4-bit": "on a base in 4 bits",
}

_VIRTUAL = "virtual tokens change the model's outputs"
_MOVED = "moves a part of the model's own weights"
_ROUNDING = "loftq corrects the quantised base"
_LOOKS = "eva looks at the training rows before training begins"
_CHOSEN = "nothing is added to the model"
_NETWORK = "PEFT saves the virtual tokens and not the network"

REFUSED: dict[tuple[str, str], str] = {
    **{
        (method, check): _VIRTUAL
        for method in ("prompt", "p_tuning", "prefix")
        for check in ("start", "dpo", "ppo")
    },
    **{(method, "merge"): "does not change weights" for method in ("prompt", "p_tuning", "prefix")},
    **{
        (method, "pack"): "virtual tokens stand before each row"
        for method in ("prompt", "p_tuning", "prefix")
    },
    ("p_tuning", "resume"): _NETWORK,
    ("prefix", "checkpointing"): "through its key-value cache",
    **{
        (method, check): _MOVED
        for method in ("lora, pissa", "lora, olora")
        for check in ("off", "named", "dpo", "ppo")
    },
    **{("lora, loftq", check): _ROUNDING for check in ("start", "dpo", "ppo")},
    ("lora, eva", "ppo"): _LOOKS,
    **{(method, "4-bit"): "changes the base's weights" for method in ("lora, pissa", "lora, olora")},
    **{(method, "merge"): "an activation between" for method in OWN if method.startswith("bottleneck")},
    ("ladder", "merge"): "cannot be merged",
    **{("trainable", check): _CHOSEN for check in ("off", "named", "merge")},
    ("trainable", "4-bit"): "quantised weights cannot be trained",
}
"""(method, check): words of the reason, where the combination is refused."""

_FOOTNOTES = {
    _VIRTUAL: "Virtual tokens change the outputs before anything is trained: with the adapter off it is "
    "another model than the one that training starts from. DPO takes them with a loss that has no reference.",
    "does not change weights": "Virtual tokens are no weights of the base.",
    "virtual tokens stand before each row": "Virtual tokens stand before each row, so that rows are padded; "
    "a log line says so.",
    _NETWORK: "PEFT saves the virtual tokens and not the network that computes them while training.",
    "through its key-value cache": "A prefix is in the key-value cache, which recomputing drops; PEFT "
    "refuses it.",
    _MOVED: "It moves a part of the model's own weights into the adapter, and switched off the rest is left. "
    "DPO takes it with precompute_ref_log_probs: true.",
    _ROUNDING: "It begins by correcting the rounding of the base, which is another model than the base in 4 "
    "bits. DPO takes it with precompute_ref_log_probs: true.",
    _LOOKS: "It looks at the training rows before training begins, and PPO makes its rows while training.",
    "changes the base's weights": "It changes the base's weights, which are quantised.",
    "an activation between": "There is an activation between the two matrices of a bottleneck.",
    "cannot be merged": "A ladder is a network beside the model.",
    _CHOSEN: "Weights of the model itself are trained and saved with it, as one whole model.",
    "quantised weights cannot be trained": "Quantised weights cannot be trained.",
}


def markdown_table() -> str:
    """What works with what, with the reasons below it."""
    notes: list[str] = []
    lines = ["| method | " + " | ".join(CHECKS) + " |", "|---|" + ":-:|" * len(CHECKS)]
    for method in METHODS:
        cells = []
        for check in CHECKS:
            reason = REFUSED.get((method, check))
            if reason is None:
                cells.append("yes")
                continue
            if reason not in notes:
                notes.append(reason)
            cells.append(f"no ({notes.index(reason) + 1})")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    explained = [f"{name}: {words}" for name, words in CHECKS.items() if words]
    listed = [f"{number}. {_FOOTNOTES[reason]}" for number, reason in enumerate(notes, 1)]
    return "\n".join(lines) + f"\n\nColumns: {'; '.join(explained)}.\n\n" + "\n".join(listed)


if __name__ == "__main__":
    print(markdown_table())
