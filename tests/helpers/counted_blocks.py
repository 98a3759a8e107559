"""Fine-tuning as one of several processes that counts how often the backbone's blocks run.

``python -m torch.distributed.run … counted_blocks.py RECIPE FOLDER``: every process writes to
``FOLDER/RANK.json`` how many tokens each call of a block that is 32 wide had.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from hf_align.commands import sft


def main(recipe: str, folder: str) -> None:
    runs: list[int] = []
    forward = LlamaDecoderLayer.forward

    def counting(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden_states.shape[-1] == 32:
            filler = kwargs["segments"].filler if "segments" in kwargs else 0
            runs.append(hidden_states.shape[1] - filler)
        return forward(self, hidden_states, *args, **kwargs)

    LlamaDecoderLayer.forward = counting
    sft.main(["--config", recipe])
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
